// The live view in the browser. All rows are here, as typed arrays: sorting, filtering and searching
// ask nobody. Whatever goes over all rows is cut into slices, so that no task of the page gets long.

const STATES = ["pending", "running", "retrying", "succeeded", "failed", "cancelled"];
const SIGNS = ["○", "▶", "↻", "✓", "✗", "⊘"]; // beside colours, for who cannot tell them apart
const RUNNING = 1;
const GONE = 255; // in place of a state: the task is not kept any more
const UNKNOWN = 255; // in place of a share
const NO_NUMBER = 0xffffffff; // of an id that does not end in one
const ROW_PX = 24;
const MAX_PX = 15_000_000; // browsers lose precision, then height, above
const SLICE_MS = 8;
const LANES = 16; // engines with a lane in the timeline
const LANE_PX = 12;
const HELLO_MS = [400, 400, 400, 400, 3000]; // the last one again and again

const COLUMNS = [
  { key: "id", title: "task", width: "minmax(8em, 1.2fr)" },
  { key: "name", title: "name", width: "minmax(7em, 1.5fr)" },
  { key: "state", title: "state", width: "8em" },
  { key: "retries", title: "retries", width: "5em", number: true },
  { key: "engine", title: "engine", width: "6em" },
  { key: "started", title: "started", width: "6.5em", number: true },
  { key: "duration", title: "duration", width: "6.5em", number: true },
  { key: "error", title: "error", width: "minmax(8em, 3fr)" },
];

// As in store.py: what never changes of a row, and what does, in the order of a message.
const IDENTITY = [["prefix", Uint32Array], ["number", Uint32Array], ["name", Uint32Array]];
const CHANGING = [
  ["error", Uint32Array], ["engine", Uint32Array], ["started", Uint32Array],
  ["duration", Float32Array], ["attempts", Uint16Array], ["retries", Uint16Array],
  ["state", Uint8Array], ["progress", Uint8Array],
];

// ------------------------------------------------------------------ long work in slices

// Resolves in a task of its own, after the page has had its turn. setTimeout would wait for 4 ms.
const turns = [];
const channel = new MessageChannel();
channel.port1.onmessage = () => turns.shift()();
function nextTurn() {
  return new Promise((resolve) => {
    turns.push(resolve);
    channel.port2.postMessage(0);
  });
}

class Slicer {
  constructor() {
    this.until = performance.now() + SLICE_MS;
  }
  get isSpent() {
    return performance.now() >= this.until;
  }
  async rest() {
    await nextTurn();
    this.until = performance.now() + SLICE_MS;
  }
}

// Sort numbers, or whatever `less` compares: blocks at once, then merged in slices.
async function sorted(items, slicer, compare) {
  const block = compare ? 2048 : 32768;
  const count = items.length;
  for (let first = 0; first < count; first += block) {
    items.subarray(first, first + block).sort(compare);
    if (slicer.isSpent) await slicer.rest();
  }
  const order = compare ?? ((a, b) => a - b);
  let from = items;
  let to = new items.constructor(count);
  for (let width = block; width < count; width *= 2) {
    for (let low = 0; low < count; low += 2 * width) {
      const middle = Math.min(low + width, count);
      const high = Math.min(low + 2 * width, count);
      let a = low;
      let b = middle;
      for (let at = low; at < high; at++) {
        if (a < middle && (b >= high || order(from[a], from[b]) <= 0)) to[at] = from[a++];
        else to[at] = from[b++];
        if ((at & 1023) === 0 && slicer.isSpent) await slicer.rest();
      }
    }
    [from, to] = [to, from];
  }
  return from;
}

// ------------------------------------------------------------------ rows

class Table {
  constructor() {
    this.clear();
    this.head = null; // counts, engines, rate: the last message's
    this.version = 0;
  }

  clear() {
    this.count = 0;
    this.columns = {};
    for (const [name, type] of [...IDENTITY, ...CHANGING]) this.columns[name] = new type(1024);
    this.strings = [];
    this.ranks = new Uint32Array(0); // place of each string in their order
    this.ranked = 0; // strings that have one
    this.isTold = false; // a snapshot has come
  }

  // Take in a page. False: something before it is missing.
  take(head, buffer) {
    if (head.reset) {
      this.clear();
      this.isTold = true;
    }
    if (!this.isTold) return false;
    if (head.first !== this.count || head.strings_from !== this.strings.length) return false;
    for (const text of head.strings) this.strings.push(text);
    this.grow(head.first + head.fresh);
    // Buffers arrive at any offset, where typed arrays may not begin.
    const bytes = new Uint8Array(buffer.byteLength);
    bytes.set(new Uint8Array(buffer.buffer ?? buffer, buffer.byteOffset ?? 0, buffer.byteLength));
    let at = 0;
    const cut = (type, count) => {
      const part = new type(bytes.buffer, at, count);
      at += count * type.BYTES_PER_ELEMENT;
      return part;
    };
    for (const [name, type] of IDENTITY) this.columns[name].set(cut(type, head.fresh), head.first);
    this.count = head.first + head.fresh;
    const places = cut(Uint32Array, head.rows);
    for (const [name, type] of CHANGING) {
      const column = this.columns[name];
      const part = cut(type, head.rows);
      for (let i = 0; i < part.length; i++) column[places[i]] = part[i];
    }
    this.head = head;
    this.version++;
    return true;
  }

  grow(count) {
    let size = this.columns.state.length;
    if (count <= size) return;
    while (size < count) size *= 2;
    for (const [name, type] of [...IDENTITY, ...CHANGING]) {
      const wider = new type(size);
      wider.set(this.columns[name]);
      this.columns[name] = wider;
    }
  }

  id(place) {
    const number = this.columns.number[place];
    const prefix = this.strings[this.columns.prefix[place]];
    return number === NO_NUMBER ? prefix : `${prefix}-${number}`;
  }

  text(name, place) {
    return this.strings[this.columns[name][place]];
  }

  // By the master's clock, as the browser's may go wrong.
  now() {
    return this.head ? this.head.now + (performance.now() - this.head.at) / 1000 : 0;
  }

  startedAt(place) {
    const started = this.columns.started[place];
    return started ? this.head.origin + (started - 1) / 100 : 0;
  }

  duration(place) {
    const c = this.columns;
    if (c.state[place] === RUNNING && c.started[place]) {
      return Math.max(0, this.now() - this.startedAt(place));
    }
    return c.duration[place];
  }

  // Give every string its place in their order.
  async rank(slicer) {
    const strings = this.strings;
    const count = strings.length;
    if (this.ranked === count) return this.ranks;
    const all = new Uint32Array(count);
    for (let i = 0; i < count; i++) all[i] = i;
    const less = (a, b) => (strings[a] < strings[b] ? -1 : strings[a] > strings[b] ? 1 : 0);
    const order = await sorted(all, slicer, less);
    const ranks = new Uint32Array(count);
    for (let i = 0; i < count; i++) ranks[order[i]] = i;
    if (strings === this.strings) {
      this.ranks = ranks;
      this.ranked = count;
    }
    return ranks;
  }

  // Return the rows to show, in order; null if this was overtaken by a snapshot.
  async select({ states, query, sort, down }) {
    const slicer = new Slicer();
    const { columns: c, count, strings } = this;
    const wanted = query.trim().toLowerCase();
    // Each string is looked through once, however many rows have it.
    const hits = wanted ? new Uint8Array(strings.length) : null;
    if (hits) {
      for (let i = 0; i < hits.length; i++) {
        hits[i] = strings[i].toLowerCase().includes(wanted) ? 1 : 0;
        if ((i & 1023) === 0 && slicer.isSpent) await slicer.rest();
      }
    }
    let rows = new Uint32Array(count);
    let found = 0;
    for (let i = 0; i < count; i++) {
      const state = c.state[i];
      if (state === GONE || (states.size && !states.has(state))) continue;
      if (hits) {
        const known = hits[c.name[i]] || hits[c.error[i]] || hits[c.engine[i]];
        if (!known && !this.id(i).toLowerCase().includes(wanted)) continue;
      }
      rows[found++] = i;
      if ((i & 1023) === 0 && slicer.isSpent) await slicer.rest();
    }
    rows = rows.subarray(0, found);
    if (sort === "id") {
      if (down) rows.reverse(); // they stand in the order of their submission
    } else {
      rows = await this.arranged(rows, sort, down, slicer);
    }
    return strings === this.strings ? rows : null;
  }

  // Sort by a number made of a column's value and the row: native, stable, and without objects.
  async arranged(rows, sort, down, slicer) {
    const c = this.columns;
    const isText = sort === "name" || sort === "engine" || sort === "error";
    const ranks = isText ? await this.rank(slicer) : null;
    const most = 2 ** 32 - 1;
    const now = this.now();
    const keys = new Float64Array(rows.length);
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i];
      let value;
      if (ranks) value = ranks[c[sort][row]];
      else if (sort === "duration") {
        const s =
          c.state[row] === RUNNING && c.started[row]
            ? now - this.startedAt(row)
            : c.duration[row];
        value = s >= 0 ? Math.min(most, Math.round(s * 1000) + 1) : 0;
      } else value = c[sort][row];
      if (!isText && down) value = most - value;
      keys[i] = value * 2 ** 21 + row; // up to 2 million rows, exact in 53 bits
      if ((i & 1023) === 0 && slicer.isSpent) await slicer.rest();
    }
    const order = await sorted(keys, slicer);
    const result = new Uint32Array(rows.length);
    for (let i = 0; i < result.length; i++) result[i] = order[i] % 2 ** 21;
    if (isText && down) result.reverse();
    return result;
  }
}

// ------------------------------------------------------------------ words

function durationText(seconds) {
  if (!(seconds >= 0)) return "";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${two(seconds % 60)} min`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`;
}

function timeText(seconds) {
  return seconds ? new Date(seconds * 1000).toLocaleTimeString("en-GB") : "";
}

const count = (n) => n.toLocaleString("en-US");

// Make an element; text is never taken for HTML.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Writing what stands there already would cost a layout.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setData(element, name, value) {
  const text = String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

// ------------------------------------------------------------------ one view of the page

class Page {
  constructor(shared) {
    this.shared = shared; // table, choice, send: of the model, so that they outlive this page
    this.rows = new Uint32Array(0);
    this.isSelecting = false;
    this.selected = ""; // what the rows were chosen by
    this.selectedAt = 0;
    this.paintedAt = 0;
    this.isDirty = true;
    this.pool = [];
    this.lines = new Map(); // of engines, by id
    this.root = this.build();
    this.observer = new ResizeObserver(() => this.invalidate());
    this.observer.observe(this.viewport);
    // What runs gets older without any news.
    this.clock = setInterval(() => this.tick(), 500);
    this.invalidate();
  }

  dispose() {
    clearInterval(this.clock);
    this.observer.disconnect();
    this.root.remove();
  }

  // -------------------------------------------------------------- building

  build() {
    const { choice, cluster } = this.shared;
    this.bar = make("div", { class: "nbcluster-bar", role: "progressbar", "aria-label": "tasks done",
      "aria-valuemin": 0 });
    this.parts = [3, 4, 5, 1, 2].map((state) => {
      const part = make("span", { class: `nbcluster-part nbcluster-${STATES[state]}` });
      this.bar.append(part);
      return [state, part];
    });
    this.summary = make("span", { class: "nbcluster-summary" });
    this.filters = STATES.map((name, state) => {
      const number = make("span", { class: "nbcluster-number" }, "0");
      const button = make("button", {
        type: "button", class: `nbcluster-filter nbcluster-${name}`, "data-filter": name,
        "aria-pressed": choice.states.has(state),
        title: `Show only tasks that are ${name}`,
        onclick: () => this.toggle(state),
      }, make("span", { "aria-hidden": "true" }, SIGNS[state]), " ", number, ` ${name}`);
      return [button, number];
    });
    this.search = make("input", {
      type: "search", "data-action": "search", placeholder: "Search id, name, engine, error",
      "aria-label": "Search tasks by id, name, engine or error",
      oninput: () => {
        choice.query = this.search.value;
        this.reselect(true);
      },
    });
    this.search.value = choice.query;
    const cancel = make("button", { type: "button", class: "nbcluster-button", "data-action": "cancel",
      title: "Cancel all tasks that have not ended", onclick: () => this.act({ type: "cancel" }) },
      "⊘ Cancel all open");
    const retry = make("button", { type: "button", class: "nbcluster-button", "data-action": "retry",
      title: "Run all failed tasks again", onclick: () => this.act({ type: "retry" }) },
      "↻ Retry failed");
    this.buttons = [cancel, retry];
    this.notice = make("span", { class: "nbcluster-notice", role: "status", "aria-live": "polite" });
    this.engines = make("div", { class: "nbcluster-engines", role: "list", "aria-label": "Engines" });
    this.canvas = make("canvas", { class: "nbcluster-timeline", role: "img",
      "aria-label": "Timeline: what ran on each engine, and when" });
    this.details = make("section", { class: "nbcluster-details", "aria-label": "Task", hidden: "" });
    return make("div", {
      class: "nbcluster-view", role: "region", "aria-label": `Cluster ${cluster}`,
      // Keys are ours in here: JupyterLab would take them for its own.
      "data-lm-suppress-shortcuts": "true",
    },
      make("div", { class: "nbcluster-head" },
        make("b", {}, `Cluster ${cluster}`), this.summary),
      this.bar,
      make("div", { class: "nbcluster-tools", role: "toolbar", "aria-label": "Filter and act" },
        ...this.filters.map(([button]) => button), this.search, ...this.buttons, this.notice),
      this.engines, this.canvas, this.buildTable(), this.details);
  }

  buildTable() {
    const grid = COLUMNS.map((column) => column.width).join(" ");
    this.heads = COLUMNS.map(({ key, title }) => {
      const button = make("button", { type: "button", "data-sort": key, title: `Sort by ${title}`,
        onclick: () => this.sortBy(key) }, title);
      return [key, make("div", { role: "columnheader" }, button), button];
    });
    const head = make("div", { class: "nbcluster-heads", role: "row", "aria-rowindex": 1,
      style: `grid-template-columns: ${grid}` }, ...this.heads.map(([, cell]) => cell));
    this.spacer = make("div", { class: "nbcluster-spacer", role: "rowgroup" });
    this.viewport = make("div", { class: "nbcluster-rows", tabindex: 0, role: "presentation",
      "aria-label": "Tasks: arrow keys move, Enter opens",
      onscroll: () => this.invalidate(), onkeydown: (event) => this.onKey(event) }, this.spacer);
    this.empty = make("div", { class: "nbcluster-empty" });
    this.viewport.append(this.empty);
    this.grid = make("div", { class: "nbcluster-table", role: "grid", "aria-label": "Tasks",
      "aria-colcount": COLUMNS.length, style: `--nbcluster-grid: ${grid}` }, head, this.viewport);
    return this.grid;
  }

  line() {
    const cells = COLUMNS.map(({ number }) =>
      make("span", { role: "gridcell", class: number ? "nbcluster-right" : null }));
    const row = make("div", { class: "nbcluster-row", role: "row", "aria-selected": "false",
      style: `height: ${ROW_PX}px`,
      onclick: () => this.open(row.getAttribute("data-task"), Number(row.dataset.at)) }, ...cells);
    return { row, cells };
  }

  // -------------------------------------------------------------- what its user does

  toggle(state) {
    const { states } = this.shared.choice;
    if (!states.delete(state)) states.add(state);
    this.reselect(true);
  }

  sortBy(key) {
    const { choice } = this.shared;
    // Numbers first show their greatest: the most retries, the longest.
    const first = COLUMNS.find((column) => column.key === key).number ?? false;
    choice.down = choice.sort === key ? !choice.down : first;
    choice.sort = key;
    this.reselect(true);
  }

  act(message) {
    this.shared.send(message);
    setText(this.notice, message.type === "cancel" ? "cancelling …" : "putting back …");
  }

  onKey(event) {
    const page = Math.max(1, Math.floor(this.viewport.clientHeight / ROW_PX) - 1);
    const last = this.rows.length - 1;
    const { choice } = this.shared;
    const at = Math.min(choice.cursor, last);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page,
      Home: 0, End: last }[event.key];
    if (event.key === "Enter" && at >= 0) {
      this.open(this.shared.table.id(this.rows[at]), at);
    } else if (event.key === "Escape") {
      this.open(null);
    } else if (to === undefined) {
      return;
    } else {
      choice.cursor = Math.max(0, Math.min(last, to));
      this.reveal(choice.cursor);
    }
    event.preventDefault();
    event.stopPropagation();
    this.invalidate();
  }

  reveal(at) {
    const top = at * this.scale();
    const height = this.viewport.clientHeight;
    if (top < this.viewport.scrollTop) this.viewport.scrollTop = top;
    else if (top + ROW_PX > this.viewport.scrollTop + height) {
      this.viewport.scrollTop = top + ROW_PX - height;
    }
  }

  open(task, at) {
    const { choice } = this.shared;
    choice.open = task === choice.open ? null : task;
    if (at >= 0) choice.cursor = at;
    this.shared.details = null;
    if (choice.open) this.shared.send({ type: "details", task: choice.open });
    this.shared.pages.forEach((page) => page.showDetails());
    this.invalidate();
  }

  // -------------------------------------------------------------- choosing rows

  // Choose the rows again; not at every piece of news: what can be seen changes at once anyway.
  async reselect(now = false) {
    const { table, choice } = this.shared;
    const wish = () => [[...choice.states], choice.query, choice.sort, choice.down].join("\n");
    const version = table.version;
    if (this.isSelecting) return;
    const pause = table.count > 20_000 ? 500 : 150;
    if (!now && performance.now() - this.selectedAt < pause) return;
    this.isSelecting = true;
    try {
      let wished;
      do {
        wished = wish();
        const rows = await table.select(choice);
        if (rows) this.rows = rows;
      } while (wished !== wish());
      this.selected = `${version}\n${wished}`;
    } finally {
      this.isSelecting = false;
      this.selectedAt = performance.now();
    }
    this.invalidate();
  }

  // -------------------------------------------------------------- painting

  tick() {
    if (!this.root.isConnected) return;
    const { table } = this.shared;
    if (!this.selected.startsWith(`${table.version}\n`)) this.reselect();
    if (table.head && table.head.counts.running) this.invalidate();
  }

  invalidate() {
    if (this.frame || !this.root) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (this.root.isConnected) this.paint();
    });
  }

  news() {
    this.reselect();
    this.paintFacts(); // at once: a hidden page has no frames, and its facts are read by programs
    this.invalidate();
  }

  paint() {
    this.paintFacts();
    this.paintHeads();
    this.paintRows();
    // The timeline goes over all rows.
    const pause = this.shared.table.count > 20_000 ? 500 : 200;
    if (performance.now() - this.paintedAt >= pause) {
      this.paintedAt = performance.now();
      this.paintTimeline();
    }
  }

  paintFacts() {
    const { table, isEnded } = this.shared;
    const { head } = table;
    if (!head) return;
    const numbers = STATES.map((name) => head.counts[name] ?? 0);
    const total = numbers.reduce((a, b) => a + b, 0);
    const done = numbers[3] + numbers[4] + numbers[5];
    const facts = { total, done, retries: head.retries, engines: head.workers.length };
    STATES.forEach((name, state) => { facts[name] = numbers[state]; });
    for (const [name, value] of Object.entries(facts)) setData(this.root, `data-${name}`, value);
    setData(this.bar, "aria-valuemax", total);
    setData(this.bar, "aria-valuenow", done);
    setData(this.bar, "aria-valuetext", `${done} of ${total} tasks done`);
    for (const [state, part] of this.parts) {
      const width = `${total ? (100 * numbers[state]) / total : 0}%`;
      if (part.style.width !== width) part.style.width = width;
    }
    this.filters.forEach(([button, number], state) => {
      setText(number, count(numbers[state]));
      setData(button, "aria-pressed", this.shared.choice.states.has(state));
    });
    const words = [`${count(done)} of ${count(total)} tasks done`];
    if (head.retries) words.push(`${count(head.retries)} ${head.retries === 1 ? "retry" : "retries"}`);
    if (done < total && head.rate > 0) words.push(`${count(Math.round(head.rate * 10) / 10)}/s`);
    if (done < total && head.left > 0) words.push(`${durationText(head.left)} left`);
    if (head.lost) words.push("the master has ended: as it was last seen");
    if (isEnded) words.push("closed");
    setText(this.summary, words.join("  |  "));
    this.buttons[0].disabled = isEnded || done === total;
    this.buttons[1].disabled = isEnded || !numbers[4];
    this.paintEngines(head.workers);
  }

  paintEngines(workers) {
    const seen = new Set();
    for (const [id, state, slots, running, megabytes, pid] of workers.slice(0, 64)) {
      seen.add(id);
      let line = this.lines.get(id);
      if (!line) {
        const load = make("span", { class: "nbcluster-load", "aria-hidden": "true" }, make("span"));
        line = make("span", { class: "nbcluster-engine", role: "listitem" }, make("span"), load);
        this.lines.set(id, line);
        this.engines.append(line);
      }
      const memory = megabytes ? `, ${count(Math.round(megabytes))} MiB` : "";
      const word = state === "active" ? "" : ` ${state}`;
      setText(line.firstChild, `${id}${word} ${running}/${slots}${memory}`);
      setData(line, "title", `engine ${id}: ${state}, process ${pid}`);
      setData(line, "data-engine", id);
      const bar = line.lastChild.firstChild;
      bar.style.width = `${slots ? Math.min(100, (100 * running) / slots) : 0}%`;
    }
    for (const [id, line] of this.lines) {
      if (seen.has(id)) continue;
      line.remove();
      this.lines.delete(id);
    }
  }

  paintHeads() {
    const { choice } = this.shared;
    for (const [key, cell, button] of this.heads) {
      const isChosen = choice.sort === key;
      setData(cell, "aria-sort", isChosen ? (choice.down ? "descending" : "ascending") : "none");
      const { title } = COLUMNS.find((column) => column.key === key);
      setText(button, isChosen ? `${title} ${choice.down ? "▼" : "▲"}` : title);
    }
  }

  // Pixels of scrolling from one row to the next: less than its height if there are too many.
  scale() {
    return Math.min(ROW_PX, MAX_PX / Math.max(1, this.rows.length));
  }

  paintRows() {
    const { table, choice } = this.shared;
    const total = this.rows.length;
    setData(this.grid, "aria-rowcount", total + 1);
    const scale = this.scale();
    const height = `${total * scale}px`;
    if (this.spacer.style.height !== height) this.spacer.style.height = height;
    const first = Math.max(0, Math.floor(this.viewport.scrollTop / scale));
    const shown = Math.min(total - first, Math.ceil(this.viewport.clientHeight / ROW_PX) + 1);
    while (this.pool.length < shown) {
      const line = this.line();
      this.pool.push(line);
      this.spacer.append(line.row);
    }
    this.pool.forEach((line, i) => {
      const isUsed = i < shown && this.rows[first + i] < table.count;
      line.row.hidden = !isUsed;
      if (isUsed) this.fill(line, first + i, first * scale + i * ROW_PX, this.rows[first + i]);
      else line.row.removeAttribute("data-task"); // nothing may find it by that
    });
    const active = choice.cursor >= first ? this.pool[choice.cursor - first]?.row : null;
    if (active && !active.hidden) {
      active.id ||= `nbcluster-${Math.random().toString(36).slice(2)}`;
      setData(this.viewport, "aria-activedescendant", active.id);
    }
    setText(this.empty, total ? "" : table.count ? "no task like that" : "no tasks yet");
  }

  fill({ row, cells }, at, top, place) {
    const { table, choice } = this.shared;
    const c = table.columns;
    const id = table.id(place);
    const state = c.state[place];
    const name = STATES[state] ?? "gone";
    const share = c.progress[place];
    const moving = state === RUNNING && share !== UNKNOWN ? ` ${share} %` : "";
    setData(row, "data-task", id);
    setData(row, "data-state", name);
    setData(row, "data-retries", c.retries[place]);
    setData(row, "data-at", at);
    setData(row, "aria-rowindex", at + 2);
    setData(row, "aria-selected", at === choice.cursor);
    setData(row, "aria-expanded", id === choice.open);
    row.style.transform = `translateY(${top}px)`;
    const texts = [id, table.text("name", place), `${SIGNS[state] ?? ""} ${name}${moving}`,
      c.retries[place] ? String(c.retries[place]) : "", table.text("engine", place),
      timeText(table.startedAt(place)), durationText(table.duration(place)),
      table.text("error", place)];
    texts.forEach((text, i) => setText(cells[i], text));
    setData(cells[7], "title", texts[7]);
  }

  // One pass over all rows into engine × pixel, then one rectangle for each run of equal pixels:
  // a rectangle for each task would take seconds.
  paintTimeline() {
    const { table } = this.shared;
    const width = this.grid.clientWidth; // a canvas that is hidden has none
    if (!table.head || !width) return;
    const c = table.columns;
    const lanes = new Map();
    const rank = [0, 2, 3, 1, 5, 4]; // a failure must not vanish under what succeeded
    let begin = Infinity;
    for (let i = 0; i < table.count; i++) {
      if (!c.started[i] || c.state[i] === GONE) continue;
      if (c.started[i] < begin) begin = c.started[i];
      if (!lanes.has(c.engine[i]) && lanes.size < LANES) lanes.set(c.engine[i], 0);
    }
    const isEmpty = begin === Infinity;
    this.canvas.hidden = isEmpty;
    if (isEmpty) return;
    [...lanes.keys()].sort((a, b) => (table.strings[a] < table.strings[b] ? -1 : 1))
      .forEach((engine, lane) => lanes.set(engine, lane));
    const gutter = 70;
    const pixels = Math.max(1, width - gutter);
    const now = (table.now() - table.head.origin) * 100 + 1;
    let end = begin + 1;
    for (let i = 0; i < table.count; i++) {
      if (!c.started[i] || c.state[i] === GONE) continue;
      const until = c.state[i] === RUNNING ? now : c.started[i] + (c.duration[i] || 0) * 100;
      if (until > end) end = until;
    }
    const scale = pixels / (end - begin);
    const bins = new Uint8Array(lanes.size * pixels);
    for (let i = 0; i < table.count; i++) {
      const state = c.state[i];
      if (!c.started[i] || state === GONE) continue;
      const lane = lanes.get(c.engine[i]);
      if (lane === undefined) continue;
      const until = state === RUNNING ? now : c.started[i] + (c.duration[i] || 0) * 100;
      const left = Math.floor((c.started[i] - begin) * scale);
      const right = Math.min(pixels - 1, Math.floor((until - begin) * scale));
      for (let x = lane * pixels + left; x <= lane * pixels + right; x++) {
        if (bins[x] < rank[state]) bins[x] = rank[state];
      }
    }
    this.drawTimeline(lanes, bins, gutter, pixels, (end - begin) / 100);
  }

  drawTimeline(lanes, bins, gutter, pixels, seconds) {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [gutter + pixels, lanes.size * LANE_PX + 14];
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.height = Math.round(height * ratio);
      this.canvas.style.height = `${height}px`;
    }
    const style = getComputedStyle(this.root);
    const colour = (name) => style.getPropertyValue(`--nbcluster-${name}`).trim();
    const colours = ["", ...["succeeded", "running", "retrying", "cancelled", "failed"].map(colour)];
    const ctx = this.canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, height);
    ctx.font = "10px sans-serif";
    ctx.textBaseline = "middle";
    for (const [engine, lane] of lanes) {
      const top = lane * LANE_PX;
      ctx.fillStyle = style.color;
      ctx.fillText(this.shared.table.strings[engine], 0, top + LANE_PX / 2, gutter - 6);
      for (let x = 0; x < pixels; ) {
        const value = bins[lane * pixels + x];
        let until = x + 1;
        while (until < pixels && bins[lane * pixels + until] === value) until++;
        if (value) {
          ctx.fillStyle = colours[value];
          // What failed is drawn taller: not by colour alone.
          const inset = value === 5 ? 0 : 2;
          ctx.fillRect(gutter + x, top + inset, until - x, LANE_PX - 1 - 2 * inset);
        }
        x = until;
      }
    }
    ctx.fillStyle = style.color;
    ctx.fillText("0", gutter, height - 6);
    const text = durationText(seconds);
    ctx.fillText(text, width - ctx.measureText(text).width, height - 6);
  }

  // -------------------------------------------------------------- one task

  showDetails() {
    const { choice, details, isEnded } = this.shared;
    this.details.hidden = !choice.open;
    this.details.replaceChildren();
    if (!choice.open) return;
    const task = choice.open;
    setData(this.details, "data-task", task);
    const button = (action, text) => make("button", { type: "button", class: "nbcluster-button",
      "data-action": `${action}-task`, onclick: () => this.act({ type: action, task }),
      ...(isEnded ? { disabled: "" } : {}) }, text);
    this.details.append(make("div", { class: "nbcluster-details-head" }, make("b", {}, task),
      button("cancel", "⊘ Cancel"), button("retry", "↻ Retry"),
      make("button", { type: "button", class: "nbcluster-button", "data-action": "close",
        "aria-label": "Close the details", onclick: () => this.open(null) }, "✕")));
    if (!details || details.task !== task) {
      const text = isEnded ? "the view is closed" : "asking the kernel …";
      this.details.append(make("p", { class: "nbcluster-waiting" }, text));
      return;
    }
    if (details.why) this.details.append(make("p", {}, details.why));
    if (details.attempts?.length) this.details.append(this.attempts(details.attempts));
    for (const stream of ["stdout", "stderr"]) {
      if (!details[stream]) continue;
      this.details.append(make("h4", {}, stream), make("pre", { "data-stream": stream, tabindex: 0 },
        details[stream]));
    }
    if (details.text) this.details.append(make("p", {}, details.text));
  }

  attempts(rows) {
    const titles = ["attempt", "engine", "started", "duration", "outcome", "error"];
    const body = make("tbody");
    for (const row of rows) {
      const took = row.started_at && row.ended_at ? row.ended_at - row.started_at : NaN;
      const cells = [row.attempt, row.engine, timeText(row.started_at), durationText(took),
        row.outcome, row.error];
      body.append(make("tr", { "data-attempt": row.attempt },
        ...cells.map((cell) => make("td", {}, String(cell ?? "")))));
      if (row.traceback) {
        body.append(make("tr", {}, make("td", { colspan: titles.length },
          make("pre", { tabindex: 0 }, row.traceback))));
      }
    }
    return make("table", { class: "nbcluster-attempts" }, make("thead", {}, make("tr", {},
      ...titles.map((title) => make("th", { scope: "col" }, title)))), body);
  }

  onNotice(text) {
    setText(this.notice, text);
  }
}

// ------------------------------------------------------------------ the widget

// What belongs to a model lives in this closure: `initialize` and `render` get different proxies.
export default () => {
  let shared = null;

  function begin(model) {
    if (shared) return shared;
    const mine = {
      cluster: model.get("cluster"),
      view: model.get("view"),
      table: new Table(),
      choice: { states: new Set(), query: "", sort: "id", down: false, open: null, cursor: 0 },
      details: null,
      pages: new Set(),
      mounted: new Map(), // pages that stand in for a static table, by its element
      isEnded: false,
      isFinal: false,
      send: (message) => model.send(message),
    };
    shared = mine;
    let asked = 0;
    let timer = 0;
    const hello = () => {
      timer = 0;
      if (mine.table.isTold || mine.isEnded) return;
      // A page of a notebook can put itself in the place of the static table.
      model.send({ type: "hello", mounts: Boolean(document.querySelector(".jp-OutputArea")) });
      timer = setTimeout(hello, HELLO_MS[Math.min(asked++, HELLO_MS.length - 1)]);
    };
    mine.onMessage = (message, buffers) => {
      if (message.type === "rows") {
        message.at = performance.now();
        if (!mine.table.take(message, buffers[0])) {
          mine.table.isTold = false; // a page was lost: from the beginning
          asked = 0;
          timer ||= setTimeout(hello, HELLO_MS[0]); // not at once: this must not become a storm
          return;
        }
        mine.isFinal = message.final;
        mine.pages.forEach((page) => page.news());
      } else if (message.type === "details") {
        mine.details = message;
        mine.pages.forEach((page) => page.showDetails());
      } else if (message.type === "notice") {
        if (message.task && message.task === mine.choice.open) mine.details = message;
        mine.pages.forEach((page) => {
          page.onNotice(message.text);
          if (mine.details === message) page.showDetails();
        });
      } else if (message.type === "final") {
        mine.isFinal = true;
      } else if (message.type === "end") {
        mine.isEnded = true;
        mine.pages.forEach((page) => page.news());
      }
      mountAll(mine);
    };
    model.on("msg:custom", mine.onMessage);
    // Notebooks put outputs into the page and take them out as one scrolls.
    const watch = setInterval(() => mountAll(mine), 500);
    mine.end = () => {
      clearTimeout(timer);
      clearInterval(watch);
      model.off("msg:custom", mine.onMessage);
      mine.isEnded = true;
      for (const element of mine.mounted.keys()) unmount(mine, element);
    };
    hello();
    return mine;
  }

  return {
    initialize({ model }) {
      const mine = begin(model);
      return () => mine.end();
    },
    render({ model, el }) {
      const mine = begin(model);
      const page = new Page(mine);
      el.append(page.root);
      mine.pages.add(page);
      page.news();
      if (mine.choice.open) page.showDetails();
      return () => {
        mine.pages.delete(page);
        page.dispose();
      };
    },
  };
};

// When the work has ended the output is a static table, so that a saved notebook has one. As long
// as the kernel lives, the view takes its place in the page, and its buttons work.
function mountAll(shared) {
  for (const element of shared.mounted.keys()) {
    if (!element.isConnected) unmount(shared, element);
  }
  if (!shared.isFinal || shared.isEnded || !shared.table.isTold) return;
  for (const element of document.querySelectorAll(`.nbcluster-static[data-view="${shared.view}"]`)) {
    if (shared.mounted.has(element)) continue;
    const page = new Page(shared);
    element.before(page.root);
    element.hidden = true;
    shared.mounted.set(element, page);
    shared.pages.add(page);
    page.news();
    if (shared.choice.open) page.showDetails();
  }
}

function unmount(shared, element) {
  const page = shared.mounted.get(element);
  shared.mounted.delete(element);
  shared.pages.delete(page);
  page.dispose();
  element.hidden = false;
}
