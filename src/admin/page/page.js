// The script of the status page. It requests /status every second and /history every five seconds and shows them.
// Text is inserted as text nodes only. Nothing is stored, and the token stays in its input field.
"use strict";

const STATUS_EVERY_MS = 1000;
const HISTORY_EVERY_MS = 5000;
const STALE_AFTER_MS = 5000;
const ROWS_MAX = 200;
const FILTER_FROM = 12;
// A longer list of tables is folded to so many rows, until it is opened or filtered.
const FOLDED_ROWS = 15;
const FOLD_FROM = 25;
// The page keeps samples of each table while it is open: one every five seconds, for five minutes.
const SAMPLE_EVERY_MS = 5000;
const SAMPLES_MAX = 60;
// So many actions of operators are shown before the earlier ones are folded.
const OPERATORS_SHOWN = 5;
// A forecast is shown only if the limit is nearer than this.
const IN_SIGHT_SECONDS = 14 * 86400;

const by = (id) => document.getElementById(id);

/** Makes an element with attributes and children. Strings become text nodes. */
function make(tag, attributes, ...children) {
  const svg = ["svg", "path", "line", "rect"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null && child !== ""));
  return element;
}

/** Nodes of a sentence, in which names between backticks become `code` elements. */
function prose(text) {
  return text.split("`").map((piece, i) => (i % 2 === 0 ? piece : make("code", {}, piece)));
}

/** Shows a text in an element, or hides the element if the text is empty. */
function say(id, text) {
  const element = by(id);
  if (element.textContent !== text) element.textContent = text;
  element.hidden = text === "";
}

// A press that ends on an element that was replaced meanwhile is no click. So nothing is replaced during a press.
let pressed = false;
addEventListener("pointerdown", () => { pressed = true; }, true);
for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, () => { pressed = false; }, true);

/**
 * Replaces an element's children only if `key` has changed, to keep selections and not to alert screen readers. A named
 * child that had the focus has it again afterwards.
 */
function renew(id, key, children) {
  const element = by(id);
  const said = JSON.stringify(key);
  if (pressed || element.dataset.said === said) return;
  const focused = element.contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
  element.dataset.said = said;
  element.replaceChildren(...children());
  if (focused) element.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
}

// ---- formatting of numbers

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = Math.abs(count);
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${count < 0 ? "−" : ""}${value.toFixed(digits)} ${units[unit]}`;
}

function count(value) {
  if (value >= 1e9) return `${(value / 1e9).toFixed(2)} G`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  return value >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString("en") : value.toFixed(1);
}

function span(seconds) {
  if (seconds <= 0) return "0 s";
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(seconds < 1e-5 ? 1 : 0)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 && !Number.isInteger(seconds) ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} days`;
}

function ago(ms, now) {
  if (!ms) return "never";
  const seconds = Math.max(0, (now - ms) / 1000);
  return seconds < 2 ? "just now" : `${span(Math.floor(seconds))} ago`;
}

function clock(ms) {
  return new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
}

// ---- advice, whose commands and SQL can be copied

function command(text) {
  const button = make("button", { type: "button", title: "Copy", "aria-label": `Copy ${text}` }, "copy");
  button.addEventListener("click", async () => {
    button.textContent = (await copy(text)) ? "copied" : "select it";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
  return make("span", { class: "command" }, make("code", {}, text), button);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // A page without TLS has no clipboard API, but `execCommand` works.
    const field = make("textarea", { style: "position:fixed;opacity:0" });
    field.value = text;
    field.readOnly = true; // no keyboard comes up on a phone
    document.body.append(field);
    field.focus();
    field.setSelectionRange(0, text.length); // on a phone `select` alone selects nothing
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

/** Nodes of an advice. Text between backticks, and a leading SQL statement, become commands that can be copied. */
function advice(text) {
  const sql = /^(ALTER|CREATE|DROP|GRANT|SELECT)\s/.test(text);
  if (sql && !text.includes("`")) {
    const end = text.lastIndexOf(";") + 1 || text.length;
    return [command(text.slice(0, end)), text.slice(end)];
  }
  return text.split("`").map((piece, i) => (i % 2 === 0 ? piece : command(piece)));
}

// ---- runbooks, which the agent serves itself

// The text of each section, by its reason code.
const runbooks = new Map();

async function learnRunbooks() {
  const response = await fetch("/runbooks.md");
  if (!response.ok) return;
  for (const section of (await response.text()).split(/^#{2,3} /m)) {
    const found = /^`(\w+)`\n/.exec(section);
    if (found) runbooks.set(found[1], section.slice(found[0].length).trim());
  }
}

/** A reason code. It opens its runbook if there is one. */
function reason(code) {
  if (!runbooks.has(code)) return make("code", {}, code);
  const button = make("button", { type: "button", class: "reason", title: "What it means, and what ends it" }, code);
  button.addEventListener("click", () => openRunbook(code));
  return button;
}

function openRunbook(code) {
  if (!runbooks.has(code)) return;
  by("runbook-title").textContent = code;
  by("runbook-text").replaceChildren(...markdown(runbooks.get(code)));
  if (!by("runbook").open) by("runbook").showModal();
}

/** Nodes of a text with code, bold words and links. A link into another page becomes its name. */
function inline(text) {
  const nodes = [];
  let rest = text;
  for (let found; (found = /\[((?:`[^`]*`|[^\]])*)\]\(([^)]*)\)|`([^`]*)`|\*\*([^*]*)\*\*/.exec(rest)); rest = rest.slice(found.index + found[0].length)) {
    nodes.push(rest.slice(0, found.index));
    const [, label, target, code, bold] = found;
    if (code !== undefined) nodes.push(make("code", {}, code));
    else if (bold !== undefined) nodes.push(make("b", {}, bold));
    else if (runbooks.has(target.slice(1))) nodes.push(reason(target.slice(1)));
    else nodes.push(...inline(label), ` (docs/${target})`);
  }
  return [...nodes, rest];
}

/** Nodes of the markdown that runbooks have: paragraphs, lists, tables and blocks of code. */
function markdown(text) {
  const cells = (line) => line.replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  return text.split(/\n{2,}/).map((block) => {
    const lines = block.split("\n");
    if (lines[0].startsWith("```")) return make("pre", {}, lines.filter((line) => !line.startsWith("```")).join("\n"));
    if (lines[0].startsWith("|")) {
      const row = (tag) => (line) => make("tr", {}, ...cells(line).map((cell) => make(tag, {}, ...inline(cell))));
      return make("table", {}, make("thead", {}, row("th")(lines[0])), make("tbody", {}, ...lines.slice(2).map(row("td"))));
    }
    const list = /^(- |\d+\. )/.exec(lines[0]);
    if (!list) return make("p", {}, ...inline(lines.join(" ")));
    const items = block.split(/\n(?=- |\d+\. )/).map((item) => item.replace(/^(- |\d+\. )/, "").replace(/\s*\n\s*/g, " "));
    return make(list[1] === "- " ? "ul" : "ol", {}, ...items.map((item) => make("li", {}, ...inline(item))));
  });
}

// ---- the parts of the page

function showPhase(s) {
  by("phase").dataset.phase = s.phase;
  say("phase-name", s.phase);
  by("since").textContent = s.since_ms ? `for ${span(Math.floor((s.now_ms - s.since_ms) / 1000))}` : "";
  say("reason", s.reason);
  by("reason").disabled = !runbooks.has(s.reason);
  const quarantine = s.quarantine_until_ms > s.now_ms && s.phase === "streaming"
    ? `Confirming is held for ${span((s.quarantine_until_ms - s.now_ms) / 1000)} after an unclean stop; changes flow meanwhile.` : "";
  by("detail").hidden = !(s.detail || quarantine);
  renew("detail", s.detail || quarantine, () => prose(s.detail || quarantine));
  say("range", s.range ? `WAL in doubt: ${s.range.from} to ${s.range.to}` : "");
  by("next").hidden = s.next === "";
  renew("next", s.next, () => [make("b", {}, "Next:"), ...advice(s.next)]);
  const tone = { streaming: "%230b7a4b", halted: "%23b3261e", retrying: "%239a5b00", paused: "%239a5b00", standby: "%235b6472" }[s.phase] || "%231f5fbf";
  const icon = `data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='7' fill='${tone}'/></svg>`;
  if (by("icon").href !== icon) by("icon").href = icon;
  document.title = `${s.phase}${s.reason && s.reason !== s.phase ? ` (${s.reason})` : ""} · ${s.prefix} · wellspring`;
}

function showHeader(s) {
  by("prefix").textContent = s.prefix;
  const version = s.server_version ? `Postgres ${Math.floor(s.server_version / 10000)}.${s.server_version % 10000}, ` : "";
  const into = s.sink === "kafka" ? "Kafka" : "standard output";
  const server = `${version}${s.hosts.join(", ")}/${s.database}`;
  by("where").textContent = `${server}, slot ${s.slot} → ${into}, ${s.format}`;
  by("where").title = by("where").textContent;
  by("version").textContent = `wellspring ${s.version}, running for ${span(Math.floor((s.now_ms - s.started_ms) / 1000))}`;
}

const STAGES = [
  ["source", "Source", "the server's log, decoded by Postgres"],
  ["decode", "Decode", "bytes to changes"],
  ["encode", "Encode", "changes to events"],
  ["broker", "Broker", "acknowledged by every in-sync replica"],
];

function showFlow(s) {
  const flow = by("flow");
  if (!flow.childElementCount) {
    STAGES.forEach(([name, title, what], i) => {
      if (i > 0) {
        const paths = [make("path", { d: "M1 7h54m-5-5 6 5-6 5" }), make("path", { d: "M1 7h54", class: "run" })];
        flow.append(make("div", { class: "arrow", "data-arrow": i }, make("b", {}), make("svg", { viewBox: "0 0 60 14" }, ...paths), make("span", {})));
      }
      flow.append(make("div", { class: "stage", "data-stage": name },
        make("h3", {}, title, make("span", { class: "badge", hidden: true }, "slowest")), make("p", {}, what),
        make("div", { class: "busy" }, make("span", {}), make("span", {})), make("div", { class: "meter" }, make("i", {}))));
    });
  }
  const stages = Object.fromEntries(s.stages.map((stage) => [stage.name, stage]));
  const registry = stages.registry || { busy: 0, slowest: false };
  for (const [name, , what] of STAGES) {
    const box = flow.querySelector(`[data-stage="${name}"]`);
    const stage = stages[name] || { busy: 0, slowest: false, mean_seconds: 0 };
    // Encoding stops while schemas are looked up, so the longer of the two is shown in one box.
    const looksUp = name === "encode" && registry.busy > stage.busy;
    const shown = looksUp ? registry : stage;
    box.classList.toggle("slowest", shown.slowest);
    box.querySelector(".badge").hidden = !shown.slowest;
    box.querySelector("p").textContent = looksUp ? "waiting for topic, catalog or schema registry" : what;
    const [busy, mean] = box.querySelectorAll(".busy span");
    busy.textContent = `${Math.round(shown.busy * 100)} % busy`;
    mean.textContent = stage.mean_seconds ? `${span(stage.mean_seconds)} each` : "";
    box.querySelector(".meter i").style.width = `${shown.busy * 100}%`;
  }
  const arrows = [
    [`${bytes(s.rates.received_bytes)}/s`, `${count(s.rates.messages)} messages/s`, s.rates.received_bytes],
    [`${count(s.rates.produced)}/s`, "changes", s.rates.produced],
    [`${count(s.rates.delivered)}/s`, "records", s.rates.delivered],
  ];
  arrows.forEach(([rate, what, moving], i) => {
    const arrow = flow.querySelector(`[data-arrow="${i + 1}"]`);
    arrow.querySelector("b").textContent = rate;
    arrow.querySelector("span").textContent = what;
    arrow.classList.toggle("moving", moving > 0);
  });
}

function tile(name, value, under, tone) {
  return make("div", { class: `tile ${tone || ""}` }, make("span", {}, name), make("b", {}, value), make("small", {}, under));
}

/** A percentile of the delay. The histogram ends at a minute. */
function delay(seconds) {
  return seconds >= 60 ? "over 1 min" : span(seconds);
}

function showTiles(s) {
  const used = s.budget_bytes ? s.in_flight_bytes / s.budget_bytes : 0;
  const tables = Object.values(s.tables);
  const flowing = tables.filter((table) => table.state === "streaming" || table.state === "incomplete").length;
  const failed = tables.some((table) => ["refused", "detached", "incomplete"].includes(table.state));
  // Nothing flows before the first copy has ended, and its rows are older than the stream. Neither is a fault.
  const copying = s.phase === "snapshot" && s.copy;
  const copied = copying ? Object.values(s.copy.tables).filter((table) => table.state === "copied").length : 0;
  const late = copying || s.phase === "standby" ? "" : s.lag_seconds > 60 ? "bad" : s.lag_seconds > 10 ? "warn" : "";
  const tiles = [
    ["Lag", s.lag_seconds === null ? "unknown" : s.lag_seconds ? span(s.lag_seconds) : "0 s",
      s.lag_bytes === null ? "bytes of WAL unknown" : `${bytes(s.lag_bytes)} of WAL`, late],
    ["Delay", s.delay.p50_seconds === null ? "–" : delay(s.delay.p50_seconds),
      s.delay.p99_seconds === null ? "no commit in the last minute" : `to Kafka by half of the commits, ${delay(s.delay.p99_seconds)} by 99 %`, ""],
    ["Delivered", `${count(s.rates.delivered)}/s`, `${count(s.rates.transactions)} transactions/s`, ""],
    ["In flight", count(s.in_flight_records), `${bytes(s.in_flight_bytes)}, ${Math.round(used * 100)} % of the budget`, used >= 1 ? "warn" : ""],
    copying ? ["Tables", `${copied} of ${Object.keys(s.copy.tables).length}`, "are copied", failed ? "bad" : ""]
      : ["Tables", `${flowing} of ${tables.length}`, "have changes flowing", failed ? "bad" : ""],
    ["Reconnects", count(s.reconnects), `to Postgres since ${clock(s.started_ms)}`, ""],
  ];
  renew("tiles", tiles, () => tiles.map((t) => tile(...t)));
}

function showWal(s) {
  const w = s.wal;
  renew("wal", [w, s.phase], () => {
    if (!w.read_ms) return [make("p", { class: "quiet" }, "Not read yet: it needs a connection to Postgres, and a slot.")];
    const part = w.limit_bytes ? w.retained_bytes / w.limit_bytes : 0;
    const lost = w.wal_status === "lost" || w.invalidation !== "";
    const soon = w.seconds_to_limit !== null && w.seconds_to_limit < 3600;
    const tone = lost || part > 0.9 || (w.seconds_to_limit !== null && w.seconds_to_limit < 600) ? "bad" : part > 0.6 || soon ? "warn" : "";
    const bar = make("i", {});
    bar.style.width = `${w.limit_bytes ? Math.min(100, part * 100) : 4}%`;
    const facts = [];
    if (lost) {
      facts.push(["", make("span", { class: "bad-text" }, `The slot is lost${w.invalidation ? `: ${w.invalidation}` : ""}.`)]);
    } else if (w.limit_bytes === null) {
      facts.push(["limit", make("span", { class: "warn-text" }, "none: a stopped pipeline can fill the server's disk")]);
      facts.push(["set one", command("ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();")]);
    } else if (w.growth_bytes_per_second === null) {
      facts.push(["limit reached", make("span", { class: "quiet" }, "being measured, half a minute")]);
    } else if (w.seconds_to_limit !== null && w.seconds_to_limit < IN_SIGHT_SECONDS) {
      facts.push(["limit reached in", make("span", { class: soon ? "bad-text" : "warn-text" }, `${span(w.seconds_to_limit)} at the present growth`)]);
    } else {
      facts.push(["limit reached", make("span", { class: "good-text" }, "not in sight")]);
    }
    if (w.seconds_at_standstill !== null && !lost) facts.push(["an outage may last", span(w.seconds_at_standstill)]);
    if (w.growth_bytes_per_second !== null) {
      facts.push(["the server writes", `${bytes(w.written_bytes_per_second)}/s`]);
      facts.push(["growth", `${bytes(w.growth_bytes_per_second)}/s`]);
    }
    facts.push(["status", w.wal_status || "unknown"]);
    return [
      make("div", { class: `gauge ${tone} ${w.limit_bytes ? "" : "open"}`, role: "img", "aria-label": `${bytes(w.retained_bytes)} kept` }, bar),
      make("div", { class: "wal-legend" }, make("b", {}, `${bytes(w.retained_bytes)} kept`), make("span", { class: "quiet" }, w.limit_bytes ? `limit ${bytes(w.limit_bytes)}` : "no limit")),
      make("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])),
    ];
  });
}

/** The larger of two LSNs, which are given as text. */
function larger(a, b) {
  const number = (lsn) => lsn.split("/").reduce((high, part) => (high << 32n) + BigInt(`0x${part}`), 0n);
  return number(a) > number(b) ? a : b;
}

function showPositions(s) {
  const rows = [
    ["server", larger(s.wal.server, s.lsn.received), "where its log ends, as far as we know"],
    ["received", s.lsn.received, "read by us"],
    ["delivered", s.lsn.delivered, "everything before it is in Kafka"],
    ["confirmed", s.lsn.confirmed, "Postgres may forget up to here"],
    ["restart", s.lsn.restart, "Postgres keeps its log from here on"],
  ];
  renew("positions", rows, () => rows.flatMap(([name, lsn, what]) => [
    make("dt", {}, name), make("dd", { class: "mono" }, lsn === "0/0" ? "–" : lsn), make("dd", { class: "quiet" }, what),
  ]));
}

/** Shows the first copy, if there is one. Shares are empty while the expected number of rows is unknown. */
function showSnapshot(s) {
  const copy = s.copy;
  by("snapshot-card").hidden = !copy;
  if (!copy) return;
  const part = (done, whole) => (whole ? `${Math.floor(Math.min(1, done / whole) * 100)} %` : "");
  renew("snapshot", copy, () => {
    const left = copy.remaining_seconds === null ? "" : `, about ${span(Math.ceil(copy.remaining_seconds))} left`;
    const whole = copy.rows_expected ? ` of about ${count(copy.rows_expected)} rows (${part(copy.rows, copy.rows_expected)})` : " rows";
    const wal = copy.wal_bytes_expected === null ? "" : `, about ${bytes(copy.wal_bytes_expected)} at its end`;
    const bar = make("i", {});
    bar.style.width = copy.rows_expected ? `${Math.min(100, (copy.rows / copy.rows_expected) * 100)}%` : "0";
    const rows = Object.entries(copy.tables).slice(0, ROWS_MAX).map(([name, t]) => make("tr", {},
      make("td", {}, name, make("span", { class: "under" }, ...prose(t.reason || "")), ...(t.next ? [make("span", { class: "under" }, ...advice(t.next))] : [])),
      make("td", {}, make("span", { class: "state", "data-state": t.state }, t.state)),
      make("td", { class: "number", "data-name": "rows" }, `${count(t.rows)}${t.rows_expected ? ` of ${count(t.rows_expected)}` : ""}`),
      make("td", { class: "number", "data-name": "bytes" }, bytes(t.bytes)),
      make("td", { class: "number" }, part(t.rows, t.rows_expected))));
    return [
      make("p", {}, `${count(copy.rows)}${whole}, ${count(copy.rows_per_second)}/s${left}`),
      make("p", { class: "quiet" }, `as of ${copy.consistent_point}; Postgres keeps ${bytes(copy.wal_bytes)} of WAL for it${wal}`),
      make("div", { class: "meter" }, bar),
      make("div", { class: "tables" }, make("table", {}, make("tbody", {}, ...rows))),
    ];
  });
}

/** Shows backfills and standstills: unfinished ones, and those that ended recently. */
function showCopies(s) {
  by("copies-card").hidden = s.windows.length === 0;
  by("copies-slowed").textContent = s.copies_slowed ? `slowed: ${s.copies_slowed}` : "";
  renew("copies", s.windows, () => {
    const rows = s.windows.slice(0, ROWS_MAX).map((w) => make("tr", {},
      make("td", {}, w.table, make("span", { class: "under" }, w.filter ? `where ${w.filter}` : "", w.filter && w.detail ? "; " : "", ...prose(w.detail)),
        ...(w.next ? [make("span", { class: "under" }, ...advice(w.next))] : [])),
      make("td", {}, make("span", { class: "state", "data-state": w.state }, w.state)),
      make("td", { class: "number", "data-name": "rows" }, count(w.rows)),
      make("td", { class: "number", "data-name": "bytes" }, bytes(w.bytes)),
      make("td", { class: "number", "data-name": "chunks" }, `${count(w.chunks)}${w.open_chunks ? ` and ${w.open_chunks} open` : ""}`)));
    const head = ["Table", "State", "Rows", "Bytes", "Chunks"].map((name, i) => make("th", { class: i > 1 ? "number" : "" }, name));
    return [make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows))];
  });
}

/** Shows the change at which the stream has halted, if one change caused the halt. It can be skipped. */
function showSkip(s) {
  const at = s.stands_at;
  by("skip").hidden = !at;
  if (at) by("skip-what").textContent = `${at.table} at commit ${at.commit_lsn}, ordinal ${at.ordinal}`;
}

function showTables(s) {
  const all = Object.entries(s.tables);
  const wanted = by("filter").value.trim().toLowerCase();
  by("filter").hidden = all.length < FILTER_FROM;
  const found = all.filter(([name, table]) => `${name} ${table.topic} ${table.state}`.toLowerCase().includes(wanted));
  found.sort(([a, x], [b, y]) => rank(x) - rank(y) || y.changes_per_second - x.changes_per_second || a.localeCompare(b));
  by("tables-count").textContent = all.length ? `${all.length} captured` : "none yet: the first connection finds them";
  const head = ["Table", "State", "Changes/s", "Changes", "Last change", "Schema ids"];
  const folded = found.length >= FOLD_FROM && !wanted && !opened;
  // A table that needs a person is never folded away.
  const urgent = found.filter(([, table]) => rank(table) === 0).length;
  const shown = found.slice(0, folded ? Math.max(FOLDED_ROWS, Math.min(urgent, ROWS_MAX)) : ROWS_MAX);
  renew("tables", [shown.map(([n, t]) => [n, t, ago(t.last_change_ms, s.now_ms)]), found.length, folded, sampledMs, runbooks.size], () => {
    if (!found.length) return [];
    const rows = shown.map(([name, t]) => make("tr", {},
      make("td", {}, name, s.sink === "kafka" && t.topic ? eventsButton(name) : "", make("span", { class: "under" }, t.topic ? `→ ${t.topic}` : t.state === "waiting" ? "no change has come yet" : ""), ...setAside(t)),
      make("td", {}, make("span", { class: "state", "data-state": t.state }, t.state)),
      make("td", { class: "number", "data-name": "changes/s" }, spark(name), count(t.changes_per_second)),
      make("td", { class: "number", "data-name": "changes" }, count(t.changes)),
      make("td", { class: "number", "data-name": "last" }, ago(t.last_change_ms, s.now_ms)),
      make("td", { class: "number", "data-name": "schema ids" }, t.schema_ids.join(", ") || "–")));
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...head.map((name, i) => make("th", { class: i > 1 ? "number" : "" }, name)))), make("tbody", {}, ...rows));
    return [table];
  });
  say("tables-more", !folded && found.length > shown.length ? `${found.length - shown.length} more; filter to see them` : "");
  const unfold = by("unfold");
  unfold.hidden = found.length < FOLD_FROM || wanted !== "";
  unfold.setAttribute("aria-expanded", String(!folded));
  const offer = folded ? `Show all ${found.length} tables` : "Show fewer tables";
  if (unfold.textContent !== offer) unfold.textContent = offer;
  const names = all.map(([name]) => name);
  renew("table", names, () => names.map((name) => make("option", {}, name)));
}

// The counts of changes of each table, oldest first, with their times, and the time of the newest.
const samples = new Map();
let sampledMs = 0;

/** Keeps the tables' counts, if it is time. */
function sample(s) {
  if (s.now_ms - sampledMs < SAMPLE_EVERY_MS && s.now_ms >= sampledMs) return;
  sampledMs = s.now_ms;
  for (const name of samples.keys()) if (!(name in s.tables)) samples.delete(name);
  for (const [name, table] of Object.entries(s.tables)) {
    let kept = samples.get(name) || [];
    // A restart of the agent begins its counts anew.
    if (kept.length && table.changes < kept[kept.length - 1].changes) kept = [];
    kept.push({ at: s.now_ms, changes: table.changes });
    samples.set(name, kept.slice(-SAMPLES_MAX - 1));
  }
}

/** Draws a table's changes per second over the last minutes, from the samples that the page has kept. */
function spark(name) {
  const kept = samples.get(name) || [];
  const rates = kept.slice(1).map((next, i) => ((next.changes - kept[i].changes) * 1000) / (next.at - kept[i].at));
  if (rates.length < 2) return "";
  const top = Math.max(...rates);
  const minutes = span(Math.round((kept[kept.length - 1].at - kept[0].at) / 1000));
  const svg = make("svg", { class: "spark", viewBox: "0 0 60 16", preserveAspectRatio: "none", role: "img", "aria-label": `up to ${count(top)}/s in the last ${minutes}` });
  const x = (i) => (60 - (rates.length - 1 - i) * (60 / (SAMPLES_MAX - 1))).toFixed(1);
  const y = (rate) => (15 - (top ? rate / top : 0) * 14).toFixed(1);
  svg.append(make("path", { d: rates.map((rate, i) => `${i ? "L" : "M"}${x(i)} ${y(rate)}`).join("") }));
  return svg;
}

// True if a person has opened the folded list of tables.
let opened = false;

/** Why a table is refused, detached or incomplete, the change from which on its topic has a gap, and the next step. */
function setAside(table) {
  if (!table.reason) return [];
  const since = table.gap ? `, its topic lacks everything since ${table.gap.commit_lsn}` : "";
  return [
    make("span", { class: "under" }, reason(table.reason), ...prose(`${since}: ${table.detail}`)),
    make("span", { class: "under" }, ...advice(table.next)),
  ];
}

/** Sort order of tables: those that need a person come first. */
function rank(table) {
  return { refused: 0, detached: 0, incomplete: 0, repairing: 1, copying: 1, waiting: 3 }[table.state] ?? 2;
}

function showErrors(s) {
  renew("errors", [s.errors, Math.floor(s.now_ms / 10000), runbooks.size], () => {
    if (!s.errors.length) return [make("li", { class: "none" }, "None since the start.")];
    return [...s.errors].reverse().map((error) => make("li", { class: s.now_ms - error.at_ms < 300000 ? "recent" : "" },
      make("div", { class: "head" }, reason(error.reason), make("span", { title: new Date(error.at_ms).toISOString() }, ago(error.at_ms, s.now_ms))),
      make("div", {}, ...prose(error.message)), make("div", { class: "hint" }, ...advice(error.next))));
  });
  by("warnings-card").hidden = s.warnings.length === 0;
  renew("warnings", s.warnings, () => s.warnings.map((warning) => make("li", {}, ...prose(warning))));
}

/** Shows consents and requests of operators, newest first. The earlier ones are folded. */
function showOperators(s) {
  const entry = (did) => make("li", {},
    make("div", { class: "head" }, make("code", {}, did.action), did.by ? make("span", {}, `by ${did.by}`) : "", make("span", { title: new Date(did.at_ms).toISOString() }, ago(did.at_ms, s.now_ms))),
    make("div", {}, ...prose(did.detail)),
    did.range ? make("div", { class: "hint" }, `WAL given up: ${did.range.from} to ${did.range.to}`) : "");
  const all = [...s.operators].reverse();
  const key = [all, Math.floor(s.now_ms / 10000)];
  renew("operators", key, () => (all.length ? all.slice(0, OPERATORS_SHOWN).map(entry) : [make("li", { class: "none" }, "Nothing is recorded, and nothing was asked for since the start.")]));
  const earlier = all.slice(OPERATORS_SHOWN);
  by("operators-earlier").hidden = earlier.length === 0;
  by("operators-earlier").querySelector("summary").textContent = `${earlier.length} earlier`;
  by("operators-earlier").querySelector("ol").replaceChildren(...earlier.map(entry));
}

// ---- charts

// Longest and shortest time that a chart shows. It shows all samples, which cover 15 minutes at most.
const SPAN_MS = 15 * 60 * 1000;
const SPAN_MS_MIN = 60 * 1000;

/** How the background of a moment is painted: a copy is healthy, and a wait is no fault. */
function shade(phase) {
  if (phase === "streaming" || phase === "snapshot") return "";
  return phase === "retrying" || phase === "halted" ? "gap" : "still";
}

/** Draws a line over the last 15 minutes, with a gap where the value is unknown. The scale reaches at least `floor`, so that noise looks small. */
function chart(id, moments, now, value, unit, floor) {
  const box = by(id);
  const width = Math.min(SPAN_MS, Math.max(SPAN_MS_MIN, now - (moments.length ? moments[0].at_ms : now)));
  const begin = now - width;
  const shown = moments.filter((moment) => moment.at_ms >= begin);
  const known = (moment) => value(moment) !== null;
  const top = nice(Math.max(floor, ...shown.filter(known).map(value)));
  const x = (moment) => ((moment.at_ms - begin) / width) * 1000;
  const step = (5000 / width) * 1000;
  const y = (moment) => 100 - (value(moment) / top) * 96;
  const svg = make("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": shown.length ? `now ${unit(value(shown[shown.length - 1]))}` : "no data" });
  for (const moment of shown.filter((m) => shade(m.phase))) svg.append(make("rect", { class: shade(moment.phase), x: Math.max(0, x(moment) - step), y: 0, width: Math.min(step, x(moment)) + 0.2, height: 100 }));
  for (const at of [4, 52, 100]) svg.append(make("line", { class: "grid", x1: 0, x2: 1000, y1: at, y2: at, "vector-effect": "non-scaling-stroke" }));
  const pieces = [[]];
  for (const moment of shown) {
    if (known(moment)) pieces[pieces.length - 1].push(moment);
    else pieces.push([]);
  }
  for (const piece of pieces.filter((moments) => moments.length > 1)) {
    const line = piece.map((moment, i) => `${i ? "L" : "M"}${x(moment).toFixed(1)} ${y(moment).toFixed(2)}`).join("");
    svg.append(make("path", { class: "area", d: `${line}L${x(piece[piece.length - 1]).toFixed(1)} 100L${x(piece[0]).toFixed(1)} 100Z` }), make("path", { class: "line", d: line }));
  }
  const cursor = make("line", { class: "cursor", y1: 0, y2: 100, visibility: "hidden" });
  svg.append(cursor);
  const axis = (text, style) => make("span", { class: "axis", style }, text);
  const tip = make("span", { class: "tip", hidden: true });
  box.replaceChildren(svg, axis(unit(top), "top:-10px;right:0"), axis(`${span(Math.round(width / 1000))} ago`, "bottom:-18px;left:0"), axis("now", "bottom:-18px;right:0"), tip,
    ...(shown.length > 1 ? [] : [make("span", { class: "empty" }, "the first minutes are being gathered")]));
  box.onmousemove = (event) => {
    if (!shown.length) return;
    const bounds = box.getBoundingClientRect();
    const at = begin + ((event.clientX - bounds.left) / bounds.width) * width;
    const near = shown.reduce((best, moment) => (Math.abs(moment.at_ms - at) < Math.abs(best.at_ms - at) ? moment : best));
    cursor.setAttribute("x1", x(near));
    cursor.setAttribute("x2", x(near));
    cursor.setAttribute("visibility", "visible");
    tip.textContent = `${clock(near.at_ms)}  ${unit(value(near))}${near.streaming ? "" : `, ${near.phase}`}`;
    tip.hidden = false;
    const left = (x(near) / 1000) * bounds.width;
    tip.style.left = left > bounds.width / 2 ? "" : `${left + 8}px`;
    tip.style.right = left > bounds.width / 2 ? `${bounds.width - left + 8}px` : "";
  };
  box.onmouseleave = () => { tip.hidden = true; cursor.setAttribute("visibility", "hidden"); };
}

/** The next number of the form 1, 2 or 5 times a power of ten. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

// ---- requests

let heard = Date.now();
let last = null;

async function ask(path) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(4000) });
  if (!response.ok) throw new Error(String(response.status));
  return response.json();
}

async function askStatus() {
  try {
    const s = await ask("/status");
    // A status that the main loop has not renewed is stale, even if it was served at once.
    const asleep = s.now_ms && Date.now() - s.now_ms > 3 * STALE_AFTER_MS && last && last.now_ms === s.now_ms;
    last = s;
    s.now_ms = s.now_ms || Date.now();
    sample(s);
    showPhase(s); showHeader(s); showFlow(s); showTiles(s); showWal(s); showPositions(s); showSnapshot(s); showCopies(s); showTables(s); showErrors(s); showOperators(s); showSkip(s);
    if (!asleep) heard = Date.now();
  } catch {
    // No message is needed: the page shows that its data is stale.
  }
  const silent = Date.now() - heard;
  document.body.classList.toggle("stale", silent > STALE_AFTER_MS);
  const live = silent > STALE_AFTER_MS ? `no news for ${span(Math.floor(silent / 1000))}` : "live";
  if (by("live").textContent !== live) by("live").textContent = live;
  setTimeout(askStatus, STATUS_EVERY_MS);
}

async function askHistory() {
  try {
    const moments = await ask("/history");
    const now = last ? last.now_ms : Date.now();
    chart("lag-chart", moments, now, (moment) => moment.lag_seconds, (value) => (value === null ? "unknown" : span(value)), 1);
    chart("rate-chart", moments, now, (moment) => moment.delivered, (value) => `${count(value)}/s`, 10);
  } catch {
    // The next answer draws the charts.
  }
  setTimeout(askHistory, HISTORY_EVERY_MS);
}

/** Shows the configuration as it is now, whenever a person opens it. */
async function showConfig() {
  if (!by("config").open) return;
  try {
    const response = await fetch("/config", { cache: "no-store", signal: AbortSignal.timeout(4000) });
    by("config-text").textContent = await response.text();
  } catch (error) {
    by("config-text").textContent = `no answer: ${error.message}`;
  }
}

// ---- the last events of a table, which are shown to whoever has the token, and kept nowhere

function eventsButton(table) {
  const button = make("button", { type: "button", class: "events-of", "aria-label": `Last events of ${table}` }, "events");
  button.addEventListener("click", () => openEvents(table));
  return button;
}

function openEvents(table) {
  by("events-title").textContent = table;
  by("events-token").value = by("token").value;
  by("events-answer").textContent = "Keys and values as consumers get them. Nothing is stored.";
  by("events").showModal();
  // A token that was typed before needs no second click.
  if (by("token").value) showEvents();
}

async function showEvents() {
  const table = by("events-title").textContent;
  by("events-answer").textContent = "reading …";
  by("events-list").replaceChildren();
  try {
    const headers = { Authorization: `Bearer ${by("events-token").value}`, "Content-Type": "application/json" };
    const response = await fetch("/events", { method: "POST", headers, body: JSON.stringify({ table }), cache: "no-store" });
    const told = await response.json();
    if (!by("events").open || by("events-title").textContent !== table) return;
    by("events-answer").textContent = told.error || `${told.events.length ? `the last ${told.events.length}` : "no events"} in topic ${told.topic}, newest first`;
    by("events-list").replaceChildren(...(told.events || []).reverse().map((line) => make("li", {}, make("pre", {}, line))));
  } catch (error) {
    by("events-answer").textContent = `no answer: ${error.message}`;
  }
}

function forgetEvents() {
  by("events-list").replaceChildren();
  by("events-token").value = "";
}

function answer(text, good) {
  by("answer").textContent = text;
  by("answer").className = `answer ${good ? "good" : "bad"}`;
}

async function act(button) {
  const path = button.dataset.action;
  const headers = { Authorization: `Bearer ${by("token").value}` };
  let body;
  if (path === "/snapshot") {
    headers["Content-Type"] = "application/json";
    const where = by("condition").value.trim();
    body = JSON.stringify({ tables: [by("table").value], where: where || null });
  }
  if (path === "/skip") {
    // The request names the change that the page showed. The agent refuses it if it has halted at another change.
    const at = last && last.stands_at;
    if (!at) return answer("it stands at no change", false);
    headers["Content-Type"] = "application/json";
    body = JSON.stringify({ table: at.table, commit: at.commit_lsn, ordinal: at.ordinal, by: by("skip-by").value.trim(), why: by("skip-why").value.trim() });
  }
  button.disabled = true;
  try {
    const response = await fetch(path, { method: "POST", headers, body });
    const told = await response.json();
    answer(told.done || told.error, response.ok);
  } catch (error) {
    answer(`no answer: ${error.message}`, false);
  }
  button.disabled = false;
}

for (const button of document.querySelectorAll("[data-action]")) button.addEventListener("click", () => act(button));
by("actions").addEventListener("submit", (event) => event.preventDefault());
by("reason").addEventListener("click", () => openRunbook(by("reason").textContent));
for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
by("events-form").addEventListener("submit", (event) => { event.preventDefault(); showEvents(); });
by("events").addEventListener("close", forgetEvents);
by("config").addEventListener("toggle", showConfig);
by("unfold").addEventListener("click", () => { opened = !opened; if (last) showTables(last); });
by("filter").addEventListener("input", () => last && showTables(last));
askStatus().then(askHistory);
learnRunbooks();
