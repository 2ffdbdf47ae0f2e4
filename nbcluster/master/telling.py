"""What clients are told: as far ahead of what they take in as their window allows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from nbcluster.core import events as e
from nbcluster.master.sessions import Session
from nbcluster.master.unread import PORTION_BYTES, size_of
from nbcluster.transport.sockets import Sent
from nbcluster.wire import codec
from nbcluster.wire import messages as m

if TYPE_CHECKING:
    from nbcluster.master.loop import Loop

log = logging.getLogger(__name__)


def send_news(loop: Loop, news: dict[str, e.News]) -> None:
    """Send each client its news of this turn, in one message if it is not too large."""
    for name, of_client in news.items():
        session = loop.sessions.by_name.get(name)
        # Who has no session asks for its tasks when it is back.
        if session is not None and not of_client.is_empty:
            tell(loop, session, of_client)


def tell(loop: Loop, session: Session, news: e.News) -> None:
    """Send news to one client, and what is durable of what it submitted."""
    unread = session.unread
    is_small = sum(map(size_of, news.ended)) <= PORTION_BYTES
    if is_small and unread.has_room and not unread.waits:
        _post(loop, session, codec.encode(_updates(session, news)))
    else:
        unread.keep_news(news)
        go_on(loop, session)


def send(loop: Loop, session: Session, message: Any) -> bool:
    """Send one message that is no news; False if it has to wait, or the client is gone."""
    frame, unread = codec.encode(message), session.unread
    if unread.waits or not unread.has_room:
        _note_wait(session)
        unread.keep(frame, always=isinstance(message, m.NotTaken))
        return False
    return _post(loop, session, frame)


def welcome(loop: Loop, session: Session, message: m.Welcome) -> None:
    """Send the welcome, from which on both sides count, and then what waits."""
    session.unread.begin()
    _post(loop, session, codec.encode(message))
    go_on(loop, session)


def say_last(loop: Loop, session: Session, message: m.Closing) -> None:
    """Send what waits, as far as one more window allows, and then that it is over."""
    session.unread.begin()
    go_on(loop, session)
    _post(loop, session, codec.encode(message))


def go_on(loop: Loop, session: Session) -> None:
    """Send what waits for a client, as far as it has room."""
    unread = session.unread
    while unread.waits and unread.has_room:
        frame = unread.next_frame()
        if frame is None:
            frame = codec.encode(_updates(session, unread.next_news()))
        else:
            unread.drop_frame()
        if not _post(loop, session, frame):
            return
    if unread.waits:
        _note_wait(session)


def _note_wait(session: Session) -> None:
    if not session.unread.is_noted:
        session.unread.is_noted = True
        log.info(
            "client %s (pid %d) does not read as fast as it is told", session.name, session.pid
        )


def _updates(session: Session, news: e.News) -> m.Updates:
    """Return the next message with news for a client."""
    session.sent += 1
    unread = session.unread
    if unread.has_gap and not unread.waits:  # the number tells it, after all that could be kept
        unread.has_gap = False
        session.sent += 1
    session.told = session.acked
    return m.Updates(
        session.sent,
        session.acked,
        news.ended,
        news.moved,
        news.aliases,
        news.refused,
        news.undefined,
    )


def _post(loop: Loop, session: Session, frame: bytes) -> bool:
    """Send now; who cannot be reached loses its session."""
    if loop.post_frame(session.peer, frame) is not Sent.QUEUED:
        loop.sessions.close(session)
        return False
    session.unread.sent(frame)
    return True
