"""Sends to peers; clients are told as far ahead of what they take in as their window allows."""

from __future__ import annotations

import logging
from typing import Any

from nbcluster.core.events import News
from nbcluster.master.sessions import Session, Sessions
from nbcluster.master.unread import PORTION_BYTES, size_of
from nbcluster.transport.sockets import Router, Sent
from nbcluster.wire import codec
from nbcluster.wire import messages as m

log = logging.getLogger(__name__)


class Sender:
    """The way out, to whoever has a session."""

    def __init__(self, router: Router, sessions: Sessions) -> None:
        self._router = router
        self.sessions = sessions

    def post(self, peer: bytes, message: Any) -> Sent:
        """Send one message to a peer, whether it has a session or not."""
        return self._router.send(peer, codec.encode(message))

    def send_to(self, name: str, message: Any) -> bool:
        """Send one message to a connected peer, by the name of client, engine or executor."""
        session = self.sessions.by_name.get(name)
        return session is not None and self.send(session, message)

    def send(self, session: Session, message: Any) -> bool:
        """Send one message that is no news; False if it has to wait, or the peer is gone.

        A peer that cannot be reached any more loses its session. So does an engine or executor that
        does not read: it has to greet again. For a client that does not, messages wait.
        """
        if session.role != "client":
            if self.post(session.peer, message) is Sent.QUEUED:
                return True
            self.sessions.close(session)
            return False
        frame, unread = codec.encode(message), session.unread
        if unread.waits or not unread.has_room:
            _note_wait(session)
            keep = unread.keep_first if isinstance(message, m.NotTaken) else unread.keep
            keep(frame)
            return False
        return self._post_counted(session, frame)

    # ------------------------------------------------------------------ clients

    def send_news(self, news: dict[str, News]) -> None:
        """Send each client its news of this turn, in one message if it is not too large."""
        for name, of_client in news.items():
            session = self.sessions.by_name.get(name)
            # Who has no session asks for its tasks when it is back.
            if session is not None and not of_client.is_empty:
                self.tell(session, of_client)

    def tell(self, session: Session, news: News) -> None:
        """Send news to one client after a commit: what was taken in of it is durable by then."""
        unread = session.unread
        session.durable = session.acked
        is_small = sum(map(size_of, news.ended)) <= PORTION_BYTES
        if is_small and unread.has_room and not unread.waits:
            self._post_counted(session, codec.encode(_updates(session, news)))
        else:
            unread.keep_news(news)
            self.go_on(session)

    def welcome(self, session: Session, message: m.Welcome) -> None:
        """Send the welcome, from which on both sides count, and then what waits."""
        session.unread.begin()
        if session.role == "client":
            self._post_counted(session, codec.encode(message))
            self.go_on(session)
        else:
            self.send(session, message)

    def say_last(self, session: Session, message: m.Closing) -> None:
        """Send what waits, as far as one more window allows, and then that it is over."""
        session.unread.begin()
        self.go_on(session)
        self._post_counted(session, codec.encode(message))

    def go_on(self, session: Session) -> None:
        """Send what waits for a client, as far as it has room."""
        unread = session.unread
        while unread.waits and unread.has_room:
            frame = unread.next_frame()
            if frame is None:
                frame = codec.encode(_updates(session, unread.next_news()))
            if not self._post_counted(session, frame):
                return
        if unread.waits:
            _note_wait(session)

    def _post_counted(self, session: Session, frame: bytes) -> bool:
        """Send now; who cannot be reached loses its session."""
        if self._router.send(session.peer, frame) is not Sent.QUEUED:
            self.sessions.close(session)
            return False
        session.unread.sent(frame)
        return True


def _note_wait(session: Session) -> None:
    if not session.unread.is_noted:
        session.unread.is_noted = True
        log.info(
            "client %s (pid %d) does not read as fast as it is told", session.name, session.pid
        )


def _updates(session: Session, news: News) -> m.Updates:
    """Return the next message with news for a client."""
    session.sent += 1
    unread = session.unread
    if unread.has_gap and not unread.has_news:  # the number tells it, after all that could be kept
        unread.has_gap = False
        session.sent += 1
    session.told = session.durable
    return m.Updates(
        session.sent,
        session.durable,
        news.ended,
        news.moved,
        news.aliases,
        news.refused,
        news.undefined,
    )
