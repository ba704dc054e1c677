// Keeps a page up to date without moving it under its reader, and adds the keyboard.
// Everything works without it: each link is a link and each button a form.
"use strict";

const body = document.body;
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);

/* ---- Times ------------------------------------------------------------------------------ */

// As flask_spooler.times writes them on the server.
function duration(seconds) {
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const parts = [];
  let rest = Math.floor(seconds);
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const number = Math.floor(rest / size);
    rest -= number * size;
    if (number) parts.push(`${number} ${unit}`);
  }
  return parts.slice(0, 2).join(" ");
}

// The reader's clock may be wrong; what counts is the server's.
let skew = 0;

function tell_times(root = document) {
  const now = Date.now() / 1000 + skew;
  for (const time of all("time[datetime]:not([data-clock])", root)) {
    const when = Date.parse(time.dateTime) / 1000;
    const far = Math.abs(now - when) >= 10 ? Math.floor(Math.abs(now - when)) : Math.abs(now - when);
    let text = when <= now ? `${duration(far)} ago` : `in ${duration(far)}`;
    if ("elapsed" in time.dataset) text = duration(Math.max(0, now - when));
    if (time.textContent !== text) time.textContent = text;
  }
}

function read_clock(root) {
  const clock = one("[data-clock]", root);
  if (clock) skew = Date.parse(clock.dateTime) / 1000 - Date.now() / 1000;
}

/* ---- Live ------------------------------------------------------------------------------- */

const toggle = one("[data-live-toggle]");
const every = Number(body.dataset.live) * 1000;
const has_parts = one("[data-live-part]:not([data-clock])") !== null;
let is_live = every > 0 && has_parts;
let tag = null;
let timer = 0;
let failures = 0;

// Makes `old` equal to `fresh`, keeping every node that can stay: focus, open details and the
// place in a log stay where the reader has them.
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh.cloneNode(true));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeName === "TIME" && !("clock" in old.dataset)) {
    if (old.dateTime !== fresh.dateTime) old.dateTime = fresh.dateTime;
    old.title = fresh.title;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open" && name !== "hidden") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const follows = "follow" in old.dataset && old.scrollTop + old.clientHeight >= old.scrollHeight - 4;
  morph_children(old, fresh);
  if (follows) old.scrollTop = old.scrollHeight;
}

function morph_children(old, fresh) {
  const keyed = new Map();
  for (const child of old.children) if (child.dataset?.key) keyed.set(child.dataset.key, child);
  let here = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const key = wanted.dataset?.key;
    const kept = key ? keyed.get(key) : here && !here.dataset?.key ? here : null;
    if (!kept) {
      old.insertBefore(wanted.cloneNode(true), here);
      continue;
    }
    if (kept === here) here = here.nextSibling;
    else old.insertBefore(kept, here);
    morph(kept, wanted);
  }
  while (here) {
    const next = here.nextSibling;
    here.remove();
    here = next;
  }
}

// The rows of a list stay where they are: known ones are brought up to date, one that fits no
// more is dimmed, and new ones are only counted.
function refresh_rows(old, fresh) {
  const known = new Map(all("[data-key]", fresh).map((row) => [row.dataset.key, row]));
  for (const row of all("[data-key]", old)) {
    const now = known.get(row.dataset.key);
    row.classList.toggle("gone", !now);
    if (!now) continue;
    now.className = row.className;
    row.dataset.state = now.dataset.state;
    for (const [place, cell] of [...row.cells].entries()) {
      if (!cell.classList.contains("tick") && now.cells[place]) morph(cell, now.cells[place]);
    }
  }
}

function is_busy(part) {
  const chosen = document.getSelection();
  if (chosen && !chosen.isCollapsed && part.contains(chosen.anchorNode)) return true;
  return "liveStill" in part.dataset && part.matches(":hover, :focus-within");
}

function is_held() {
  return document.hidden || one("dialog[open]") || one("input[name=id]:checked, [data-all]:checked");
}

function apply(fresh) {
  read_clock(fresh);
  for (const part of all("[data-live-part]")) {
    const now = one(`[data-live-part="${part.dataset.livePart}"]`, fresh);
    if (!now && "until" in part.dataset) location.reload();
    if (!now || is_busy(part)) continue;
    if ("liveRows" in part.dataset) refresh_rows(part, now);
    else morph(part, now);
  }
  document.title = fresh.title;
  tell_times();
  adorn();
}

function live_address() {
  const address = new URL(location.href);
  const list = one("[data-list]");
  if (list && !("older" in list.dataset)) {
    address.searchParams.set("before", String(Number(list.dataset.top) + 1));
    address.searchParams.set("after", list.dataset.top);
  }
  return address;
}

async function refresh() {
  clearTimeout(timer);
  if (!is_live) return;
  if (!is_held()) {
    toggle.classList.add("busy");
    try {
      const headers = { "X-Spooler-Live": "1", ...(tag ? { "If-None-Match": tag } : {}) };
      const answer = await fetch(live_address(), { headers, cache: "no-store", redirect: "error" });
      failures = 0;
      if (answer.status === 200) {
        tag = answer.headers.get("ETag");
        const text = await answer.text();
        if (!is_held()) apply(new DOMParser().parseFromString(text, "text/html"));
        else tag = null;
      } else if (answer.status === 403) {
        is_live = false;
      }
    } catch {
      failures += 1;
    }
    toggle.classList.remove("busy");
    show_live();
  }
  // A server that is away is asked less and less often.
  timer = setTimeout(refresh, every * Math.min(2 ** failures, 12));
}

function show_live() {
  if (!toggle) return;
  toggle.hidden = every === 0 || !has_parts;
  toggle.setAttribute("aria-pressed", String(is_live));
  one("[data-live-word]").textContent = !is_live ? "Paused" : failures ? "No answer" : "Live";
}

function toggle_live() {
  is_live = !is_live;
  failures = 0;
  show_live();
  if (is_live) refresh();
}

/* ---- Rows: ticks, and where the keyboard is ------------------------------------------------ */

let at = null;

const rows = () => all("[data-live-rows] > tr, .plain tbody > tr, .groups > .group, .failures > li");

function go_to(row) {
  if (!row) return;
  at?.classList.remove("at");
  at = row;
  at.classList.add("at");
  const link = one("a", at);
  if (link) link.focus({ preventScroll: true });
  at.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const known = rows();
  if (!known.length) return;
  const place = known.indexOf(at);
  go_to(known[place < 0 ? (by > 0 ? 0 : known.length - 1) : Math.min(Math.max(place + by, 0), known.length - 1)]);
}

function show_ticks() {
  const bulk = one("[data-bulk]");
  if (!bulk) return;
  const boxes = all("input[name=id]");
  const number = boxes.filter((box) => box.checked).length;
  const whole = one("[data-all]");
  for (const box of boxes) box.closest("tr").classList.toggle("ticked", box.checked || whole?.checked === true);
  bulk.classList.toggle("some", number > 0 || whole?.checked === true);
  one("[data-ticked]").textContent = whole?.checked ? "With all that match" : `${number} ticked`;
  for (const button of all("button", bulk)) button.disabled = !number && !whole?.checked;
  const every_one = one("[data-tick-all]");
  every_one.hidden = false;
  every_one.checked = number > 0 && number === boxes.length;
  every_one.indeterminate = number > 0 && number < boxes.length;
}

/* ---- Questions ------------------------------------------------------------------------------ */

const question = one("dialog.confirm");

function ask(form, word, button) {
  one("#confirm-title").textContent = form.dataset.confirm;
  one("#confirm-text").textContent = form.dataset.detail;
  one("[data-yes]").textContent = word;
  question.returnValue = "no";
  question.showModal();
  question.onclose = () => {
    if (question.returnValue !== "yes") return;
    const sure = document.createElement("input");
    Object.assign(sure, { type: "hidden", name: "confirm", value: "1" });
    form.append(sure);
    form.requestSubmit(button);
  };
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.confirm && !form.elements.confirm) {
    event.preventDefault();
    ask(form, event.submitter?.textContent.trim() || "Yes", event.submitter);
  }
});

/* ---- Keyboard ------------------------------------------------------------------------------- */

const SECTIONS = { o: "", j: "jobs", d: "dead", q: "queues", w: "workers", p: "performance", s: "system" };
let leader = 0;

function press(action) {
  const here = at && one(`input[name=id]`, at);
  if (here && !all("input[name=id]:checked").length) here.checked = true;
  show_ticks();
  const scope = one("[data-bulk]") || (at && one("form.buttons", at)) || one(".job-head");
  const button = scope && one(`button[data-action="${action}"], button[value="${action}"]`, scope);
  if (button && !button.disabled) button.click();
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  x: () => {
    const box = at && one("input[name=id]", at);
    if (box) box.checked = !box.checked;
    show_ticks();
  },
  r: () => press("retry"),
  c: () => press("cancel"),
  "#": () => press("delete"),
  p: toggle_live,
  t: () => choose_theme({ auto: "dark", dark: "light", light: "auto" }[document.documentElement.dataset.theme || "auto"]),
  n: () => { location.href = `${body.dataset.home}enqueue`; },
  "/": () => {
    const field = one("[data-search]");
    if (field) field.select();
    else location.href = `${body.dataset.home}jobs#search`;
  },
  "?": () => one("dialog.help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || one("dialog[open]")) return;
  if (event.target.matches("input:not([type=checkbox]), textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "Escape") {
    one(".menu[open]")?.removeAttribute("open");
    return;
  }
  if (Date.now() - leader < 1200 && event.key in SECTIONS) {
    event.preventDefault();
    location.href = body.dataset.home + SECTIONS[event.key];
  } else if (event.key === "g") {
    leader = Date.now();
    return;
  } else if (Object.hasOwn(KEYS, event.key)) {
    event.preventDefault();
    KEYS[event.key]();
  }
  leader = 0;
});

/* ---- Theme, copying, the form ----------------------------------------------------------------- */

function choose_theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  document.cookie = `spooler_theme=${name}; path=${body.dataset.home}; max-age=31536000; samesite=strict`;
  for (const link of all("[data-theme-choice]")) {
    if (link.dataset.themeChoice === name) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

// What the script adds to what the server sent; done again after each refresh.
function adorn() {
  for (const code of all("[data-copy]")) {
    if (!navigator.clipboard || code.nextElementSibling?.classList.contains("copy")) continue;
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "text copy", textContent: "Copy" });
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    });
    code.after(button);
  }
}

function watch_form() {
  const select = one("[data-task]");
  if (!select) return;
  const field = one("#arguments");
  let template = field.value;
  select.addEventListener("change", () => {
    const { text, summary, template: fresh } = select.selectedOptions[0].dataset;
    const shown = one("[data-signature]");
    const code = document.createElement("code");
    code.textContent = text || "";
    shown.replaceChildren(code, ` ${summary || ""}`);
    // What the reader has typed is not thrown away.
    if (field.value === template || !field.value.trim()) field.value = fresh || "{}";
    template = fresh || "{}";
  });
}

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-tick-all]")) {
    for (const box of all("input[name=id]")) box.checked = event.target.checked;
  }
  if (event.target.closest("[data-list]")) show_ticks();
});
document.addEventListener("click", (event) => {
  const choice = event.target.closest("[data-theme-choice]");
  if (choice) {
    event.preventDefault();
    choose_theme(choice.dataset.themeChoice);
  }
  if (!event.target.closest(".menu")) one(".menu[open]")?.removeAttribute("open");
  if (event.target.closest("[data-help]")) one("dialog.help").showModal();
  const row = event.target.closest("[data-live-rows] > tr");
  if (row) { at?.classList.remove("at"); at = row; }
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && is_live) refresh(); });
toggle?.addEventListener("click", toggle_live);

for (const hint of all("[data-help], [data-help-hint]")) hint.hidden = false;
if (location.hash === "#search") one("[data-search]")?.focus();
for (const log of all("[data-follow]")) log.scrollTop = log.scrollHeight;
one(".sections [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
one(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
read_clock(document);
show_live();
show_ticks();
adorn();
watch_form();
one("[data-go-on]")?.submit();
setInterval(tell_times, 1000);
if (is_live) timer = setTimeout(refresh, every);
