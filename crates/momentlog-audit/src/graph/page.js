"use strict";
// The slider and the tree of a picture. From stateAt to connect it lays out rows as frame.rs does, under the same
// names; a test compares the two. A moment is a number: its place in the order of the rows. Text goes into the page
// only as textContent.
(() => {
const [GHOST_DELETIONS, RUN_MAX, RUN_ENDS, OPEN_MAX, DASHED_MAX, ABOUT_MAX] = [20, 12, 3, 200, 12, 12];
const [ROW, LANE, LEFT] = [26, 18, 12];
const [CREATED, DELETED, MOVED, CURRENT, HELD, RELEASED] = [0, 1, 2, 3, 4, 5];
const LENGTHS = [3, 2, 3, 2, 3, 3, 2];

const at = (id) => document.getElementById(id);
const data = JSON.parse(at("data").textContent);
const orNone = (number) => number < 0 ? null : number;

function changesIn(flat, from) {
  const changes = [];
  for (let i = from; i < flat.length; i += LENGTHS[flat[i]]) changes.push(flat.slice(i, i + LENGTHS[flat[i]]));
  return changes;
}

const moments = data.moments.map((moment) => Array.isArray(moment)
  ? { name: moment[0], created: moment[1], actor: "before the first record" } : { name: moment });
const start = changesIn(data.start, 0);
let [seq, time] = [0, 0];
const records = data.records.map((record) => {
  [seq, time] = [seq + record[0], time + record[1]];
  const [actor, reason] = [data.actors[record[2]], record[3] < 0 ? null : data.reasons[record[3]]];
  const changes = changesIn(record, 5);
  for (const [code, moment] of changes) if (code === CREATED) Object.assign(moments[moment], { created: time, actor });
  return { seq, time, actor, reason, words: record[4], changes };
});
const deletions = records.map((record, i) => record.changes.some(([code]) => code === DELETED) ? i + 1 : 0).filter(Boolean);

// What the reader has set.
let position = records.length;
let ghosts = "recent";
let local = false;
let chosen = null;
let focused = null;
const [opened, shut, unfolded] = [new Set(), new Set(), new Set()];

function stateAt(position) {
  const state = { current: null, deletions: [], moments: moments.map(() => (
    { life: "before", died: null, parent: null, was: null, tags: new Set() })) };
  const apply = ([code, moment, other], place) => {
    const its = state.moments[moment];
    if (code === CREATED) { its.life = "alive"; its.parent = orNone(other); }
    if (code === MOVED) { its.was = [its.parent, place]; its.parent = orNone(other); }
    if (code === CURRENT) state.current = orNone(moment);
    if (code === HELD) its.tags.add(data.tags[other]);
    if (code === RELEASED) its.tags.delete(data.tags[other]);
    if (code === DELETED) {
      Object.assign(its, { life: "deleted", died: place, tags: new Set() });
      if (state.current === moment) state.current = null;
      if (state.deletions.at(-1) !== place) state.deletions.push(place);
    }
  };
  for (const change of start) apply(change, 0);
  records.slice(0, position).forEach((record, place) => record.changes.forEach((change) => apply(change, place)));
  return state;
}

const isAlive = (state, moment) => state.moments[moment].life === "alive";

function about(position) {
  const found = new Set();
  for (const [, moment] of position ? records[position - 1].changes : []) {
    if (moment >= 0) found.add(moment);
    if (found.size === ABOUT_MAX) break;
  }
  return found;
}

function pinnedAt(state, position) {
  const pinned = about(position);
  if (state.current !== null) pinned.add(state.current);
  if (chosen !== null) pinned.add(chosen);
  state.moments.forEach((its, moment) => { if (its.tags.size) pinned.add(moment); });
  return pinned;
}

function shownIn(state) {
  const oldest = { all: 0, none: Infinity, recent: state.deletions.at(-GHOST_DELETIONS) ?? state.deletions[0] ?? 0 }[ghosts];
  const here = state.deletions.at(-1) === position - 1 ? position - 1 : Infinity;
  return moments.map((_, moment) => moment).filter((moment) => {
    const { life, died } = state.moments[moment];
    return life === "alive" || life === "deleted" && died >= Math.min(oldest, here);
  });
}

function parentsOf(state, shown) {
  const parents = new Map();
  let above = [];
  for (const moment of shown) {
    let parent = state.moments[moment].parent;
    if (isAlive(state, moment)) above = [];
    else {
      while (above.length && above.at(-1) !== parent) above.pop();
      if (!above.length) while (parent !== null && !isAlive(state, parent)) parent = state.moments[parent].parent;
      above.push(moment);
    }
    if (parent !== null) parents.set(moment, parent);
  }
  return parents;
}

function lanesOf(shown, parents) {
  const lanes = { of: new Map(), heirs: new Map(), lastRoot: null, apart: new Set() };
  const places = new Map(shown.map((moment, place) => [moment, place]));
  for (const moment of shown) {
    if (parents.has(moment)) lanes.heirs.set(parents.get(moment), moment);
    else lanes.lastRoot = moment;
  }
  const ends = (moment) => places.get(lanes.heirs.get(moment));
  const above = [];
  shown.forEach((moment, place) => {
    while (above.length && ends(above.at(-1)) < place) above.pop();
    const right = above.length ? lanes.of.get(above.at(-1)) + 1 : 0;
    const parent = parents.get(moment);
    let lane = right;
    if (parent !== undefined && above.at(-1) !== parent) lanes.apart.add(moment);
    else if (parent !== undefined && lanes.heirs.get(parent) === moment) { above.pop(); lane = right - 1; }
    lanes.of.set(moment, lane);
    if (ends(moment) > place) above.push(moment);
  });
  return lanes;
}

const joined = (moment, parents, lanes) => lanes.apart.has(moment) ? undefined : parents.get(moment);

function closedIn(shown, parents, lanes, pinned) {
  const closed = { below: new Map(), hidden: new Set() };
  const kept = new Set();
  for (const moment of [...pinned, ...lanes.apart]) {
    for (let up = parents.get(moment); up !== undefined && !kept.has(up); up = parents.get(up)) kept.add(up);
  }
  const hides = new Map();
  for (const moment of shown) {
    const parent = joined(moment, parents, lanes);
    const by = hides.get(parent) ?? (closed.below.has(parent) ? parent : undefined);
    if (by !== undefined) {
      hides.set(moment, by);
      closed.hidden.add(moment);
      closed.below.set(by, closed.below.get(by) + 1);
      continue;
    }
    const isSide = parents.has(moment) ? lanes.heirs.get(parents.get(moment)) !== moment : lanes.lastRoot !== moment;
    const isClosed = shut.has(moment) || shown.length > OPEN_MAX && isSide && !opened.has(moment);
    if (isClosed && !kept.has(moment)) closed.below.set(moment, 0);
  }
  return closed;
}

function fold(state, open, lanes, closed, pinned) {
  const isPlain = (moment) => !pinned.has(moment) && !lanes.apart.has(moment) && !unfolded.has(moment);
  const goesOn = (one, next) => isPlain(one) && isPlain(next) && lanes.of.get(one) === lanes.of.get(next)
    && isAlive(state, one) === isAlive(state, next);
  const rows = [];
  for (let from = 0, to; from < open.length; from = to) {
    for (to = from + 1; to < open.length && goesOn(open[to - 1], open[to]);) to++;
    const run = open.slice(from, to).map((moment) => (
      { moment, lane: lanes.of.get(moment), closed: closed.below.get(moment) ?? 0 }));
    if (run.length > RUN_MAX) {
      const folded = run.slice(RUN_ENDS, -RUN_ENDS);
      const count = folded.reduce((sum, row) => sum + 1 + row.closed, 0);
      const moment = folded[0].moment;
      run.splice(RUN_ENDS, folded.length, { moment, lane: run[0].lane, closed: 0, fold: folded.map((row) => row.moment), count });
    }
    rows.push(...run);
  }
  return rows;
}

function connect(state, rows, parents, lanes) {
  const rowOf = new Map();
  rows.forEach((row, place) => (row.fold ?? [row.moment]).forEach((moment) => rowOf.set(moment, place)));
  rows.forEach((row, place) => {
    row.from = rowOf.get(parents.get(row.moment)) ?? null;
    row.isBow = lanes.apart.has(row.moment);
    const was = row.fold ? null : state.moments[row.moment].was?.[0] ?? null;
    const from = rowOf.get(was);
    const isNear = Math.abs(from - place) <= DASHED_MAX || chosen === row.moment || chosen !== null && chosen === was;
    row.dashed = from !== undefined && from !== row.from && isNear ? from : null;
  });
  return rows;
}

function layout(state, pinned) {
  const shown = shownIn(state);
  const parents = parentsOf(state, shown);
  const lanes = lanesOf(shown, parents);
  const closed = closedIn(shown, parents, lanes, pinned);
  const open = shown.filter((moment) => !closed.hidden.has(moment));
  return { shown, parents, rows: connect(state, fold(state, open, lanes, closed, pinned), parents, lanes) };
}

// Texts.
function timeText(seconds) {
  const date = new Date(seconds * 1000);
  const year = date.getUTCFullYear();
  if (!(year >= 0 && year <= 9999)) return typeof seconds === "string" ? seconds : "@" + seconds;
  if (!local) return date.toISOString().slice(0, 19).replace("T", " ") + "Z";
  const offset = -date.getTimezoneOffset();
  const two = (number) => String(number).padStart(2, "0");
  return new Date(date.getTime() + offset * 60000).toISOString().slice(0, 19).replace("T", " ")
    + (offset < 0 ? "-" : "+") + two(Math.floor(Math.abs(offset) / 60)) + ":" + two(Math.abs(offset) % 60);
}

function marksOf(state, moment) {
  const marks = [];
  const its = state.moments[moment];
  if (state.current === moment) marks.push(["here", "you are here"]);
  if (its.tags.size) marks.push(["held", "held: " + [...its.tags].sort().join(", ")]);
  if (its.life === "deleted") marks.push(["gone", `deleted in ${records[its.died].seq} by ${records[its.died].actor}`]);
  if (its.was) {
    const [was, place] = its.was;
    marks.push(["was", `was ${was === null ? "a root" : "below " + moments[was].name} until ${records[place].seq}`]);
  }
  return marks;
}

function recordText() {
  if (!position) return ["Before the first record", ""];
  const { seq, time, actor, reason, words } = records[position - 1];
  return [`Record ${seq} · ${timeText(time)} · ${actor} · ${reason === null ? "no reason given" : `“${reason}”`}`, words];
}

// The page.
function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const elements = new Map();
let view = { rows: [] };

function rowElement(state, row, levels, x) {
  const { moment } = row;
  const [level, place, siblings, hasChildren] = levels.get(moment);
  const isFold = row.fold !== undefined;
  const texts = [];
  if (isFold) {
    const [first, last] = [moments[row.fold[0]].name, moments[row.fold.at(-1)].name];
    texts.push(["fold", `⋯ ${row.count} ${isAlive(state, moment) ? "more" : "deleted"}: ${first} … ${last}`]);
  } else {
    texts.push(["name", moments[moment].name]);
    if (row.closed) texts.push(["closed", `▸ ${row.closed} below`]);
    texts.push(...marksOf(state, moment));
  }
  let className = isFold ? "row" : isAlive(state, moment) ? "row alive" : "row ghost";
  if (moment === state.current) className += " current";
  if (view.about.has(moment) && !isFold) className += " about";
  const expanded = isFold || row.closed ? "false" : hasChildren ? "true" : null;
  const spans = isFold ? texts : [...texts, ["time", timeText(moments[moment].created)], ["actor", moments[moment].actor]];
  const signature = JSON.stringify([className, spans, x, level, place, siblings, expanded, row.lane, chosen === moment]);
  const known = elements.get(moment);
  if (known?.signature === signature) return known.made;
  const made = element("div", className);
  const dot = element("span", "dot");
  dot.style.left = `${LEFT + row.lane * LANE}px`;
  made.style.paddingLeft = `${x}px`;
  const label = element("span", "label");
  for (const [kind, text] of texts) label.append(element("span", kind, text), " ");
  if (label.textContent.length > 60) label.title = label.textContent;
  made.append(dot, label, ...spans.slice(texts.length).map(([kind, text]) => element("span", kind, text)));
  const attributes = { role: "treeitem", "aria-level": level, "aria-posinset": place, "aria-setsize": siblings,
    "aria-selected": chosen === moment, "aria-expanded": expanded, "data-moment": moment, "data-lane": row.lane, tabindex: -1 };
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  elements.set(moment, { made, signature });
  return made;
}

// Level, place among siblings, number of siblings, whether there are children.
function levelsOf({ shown, parents }) {
  const [children, levels] = [new Map(), new Map()];
  for (const moment of shown) {
    const parent = parents.get(moment);
    if (!children.has(parent)) children.set(parent, []);
    children.get(parent).push(moment);
  }
  const ahead = [[undefined, 0]];
  while (ahead.length) {
    const [parent, level] = ahead.pop();
    (children.get(parent) ?? []).forEach((moment, place, siblings) => {
      levels.set(moment, [level + 1, place + 1, siblings.length, children.has(moment)]);
      ahead.push([moment, level + 1]);
    });
  }
  return levels;
}

function drawEdges(state, rows, x) {
  const paths = { solid: "", dotted: "", dashed: "" };
  const bow = (from, to) => `M${from[0]} ${from[1]}C${x - 8} ${from[1]} ${x - 8} ${to[1]} ${to[0]} ${to[1]}`;
  const place = (row) => [LEFT + rows[row].lane * LANE, row * ROW + ROW / 2];
  rows.forEach((row, i) => {
    const to = place(i);
    if (row.from !== null) {
      const from = place(row.from);
      paths[isAlive(state, row.moment) ? "solid" : "dotted"] += row.isBow ? bow(from, to)
        : from[0] === to[0] ? `M${from[0]} ${from[1]}V${to[1]}`
        : `M${from[0]} ${from[1]}V${to[1] - ROW / 2}Q${from[0]} ${to[1]} ${to[0]} ${to[1]}`;
    }
    if (row.dashed !== null) paths.dashed += bow(place(row.dashed), to);
  });
  for (const [kind, path] of Object.entries(paths)) at(kind).setAttribute("d", path);
  at("edges").setAttribute("height", rows.length * ROW);
  at("edges").setAttribute("width", x);
}

function show() {
  const state = stateAt(position);
  const { shown, parents, rows } = layout(state, pinnedAt(state, position));
  view = { rows, about: about(position) };
  const living = state.moments.filter((its) => its.life === "alive").length;
  const gone = state.moments.filter((its) => its.life === "deleted").length;
  at("counts").textContent = `${living} ${data.kind}${living === 1 ? "" : "s"}, ${gone} deleted`;
  const [record, words] = recordText();
  at("record").textContent = record;
  at("words").textContent = words;
  at("words").className = deletions.includes(position) ? "gone" : "";
  at("slider").value = position;
  at("slider").setAttribute("aria-valuetext", words ? `${record}: ${words}` : record);
  at("now").setAttribute("d", `M${position} 0V10`);
  at("back").disabled = !position;
  at("on").disabled = position === records.length;
  at("previous").disabled = !(deletions[0] < position);
  at("next").disabled = !(deletions.at(-1) > position);
  at("ghosts").textContent = `deleted: ${ghosts}`;
  at("clock").textContent = local ? "time: local" : "time: UTC";

  const x = LEFT + (1 + Math.max(0, ...rows.map((row) => row.lane))) * LANE + 12;
  const hadFocus = at("rows").contains(document.activeElement);
  const levels = levelsOf({ shown, parents });
  const made = rows.map((row) => rowElement(state, row, levels, x));
  const isSame = made.length === at("rows").children.length && made.every((row, i) => row === at("rows").children[i]);
  if (!isSame) at("rows").replaceChildren(...made);
  drawEdges(state, rows, x);
  focusOn(rows.some((row) => row.moment === focused) ? focused : state.current ?? rows[0]?.moment ?? null, hadFocus);
}

function focusOn(moment, grab) {
  elements.get(focused)?.made.setAttribute("tabindex", -1);
  focused = moment;
  const made = elements.get(moment)?.made;
  made?.setAttribute("tabindex", 0);
  if (grab) made?.focus({ preventScroll: true });
  if (grab) made?.scrollIntoView({ block: "nearest" });
}

let address;
function go(to) {
  position = Math.max(0, Math.min(records.length, to));
  show();
  const row = view.rows.find((row) => view.about.has(row.moment));
  if (row) elements.get(row.moment).made.scrollIntoView({ block: "nearest" });
  clearTimeout(address);
  address = setTimeout(() => history.replaceState(null, "", `#seq=${position ? records[position - 1].seq : 0}`), 250);
}

function fromAddress() {
  const [, seq] = /^#seq=(\d+)$/.exec(location.hash) ?? [];
  return seq === undefined ? records.length : records.filter((record) => record.seq <= Number(seq)).length;
}

function openRow(row) {
  if (row.fold) row.fold.forEach((moment) => unfolded.add(moment));
  else { opened.add(row.moment); shut.delete(row.moment); }
  show();
}

function onTreeKey(event) {
  const here = view.rows.findIndex((row) => row.moment === focused);
  const row = view.rows[here];
  if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
  const step = (to) => { if (view.rows[to]) focusOn(view.rows[to].moment, true); };
  const child = view.rows.findIndex((other) => other.from === here);
  const isClosed = row.fold || row.closed;
  const keys = {
    ArrowUp: () => step(here - 1),
    ArrowDown: () => step(here + 1),
    Home: () => step(0),
    End: () => step(view.rows.length - 1),
    ArrowRight: () => isClosed ? openRow(row) : step(child),
    ArrowLeft: () => {
      if (!isClosed && child >= 0) {
        shut.add(row.moment);
        opened.delete(row.moment);
        show();
        if (view.rows.find((other) => other.moment === row.moment)?.closed) return;
        shut.delete(row.moment);
      }
      step(row.from);
    },
    Enter: () => isClosed ? openRow(row) : choose(row.moment),
    " ": () => choose(row.moment),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}

function choose(moment) {
  chosen = chosen === moment ? null : moment;
  show();
}

function onTreeClick(event) {
  const made = event.target.closest("[data-moment]");
  const row = view.rows.find((row) => row.moment === Number(made?.dataset.moment));
  if (!row) return;
  focusOn(row.moment, true);
  if (row.fold || event.target.className === "closed") openRow(row);
  else choose(row.moment);
}

function begin() {
  document.documentElement.className = "live";
  at("slider").max = records.length;
  at("ticks").setAttribute("viewBox", `0 0 ${Math.max(1, records.length)} 10`);
  const isDeletion = new Set(deletions);
  const ticks = { plain: "", gone: "" };
  for (let i = 1; i <= records.length; i++) ticks[isDeletion.has(i) ? "gone" : "plain"] += `M${i} 0V${isDeletion.has(i) ? 10 : 5}`;
  at("tick-plain").setAttribute("d", ticks.plain);
  at("tick-gone").setAttribute("d", ticks.gone);
  at("slider").addEventListener("input", () => go(Number(at("slider").value)));
  at("back").addEventListener("click", () => go(position - 1));
  at("on").addEventListener("click", () => go(position + 1));
  at("previous").addEventListener("click", () => go(deletions.findLast((place) => place < position) ?? position));
  at("next").addEventListener("click", () => go(deletions.find((place) => place > position) ?? position));
  at("ghosts").addEventListener("click", () => { ghosts = { recent: "all", all: "none", none: "recent" }[ghosts]; show(); });
  at("clock").addEventListener("click", () => { local = !local; show(); });
  at("rows").addEventListener("keydown", onTreeKey);
  at("rows").addEventListener("click", onTreeClick);
  addEventListener("hashchange", () => { position = fromAddress(); show(); });
  position = fromAddress();
  show();
}
begin();
})();
