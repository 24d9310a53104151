"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const { names, documents, flagged } = data;
  const ROW = 60; // px, as in the style sheet
  const SPARE = 4; // rows drawn beyond either edge of the list
  const STORE = `label-review/${data.key}/`;
  const UNDO_STEPS = 200;
  const COLOURS = 8; // in the style sheet
  const MOST_OPTIONS = 30; // of a drop-down list; more are searched by typing
  const MOST_MATCHES = 12; // classes listed at once while searching

  // ---- texts enter the page only as text nodes, with invisible control characters shown by name

  const BIDI = {
    "\u061c": "ALM", "\u200e": "LRM", "\u200f": "RLM", "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF",
    "\u202d": "LRO", "\u202e": "RLO", "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI",
  };
  const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
  const controlName = (c) => BIDI[c] ?? `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

  function el(tag, className, ...children) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children);
    return node;
  }

  function shown(text, needle = "") {
    const out = [];
    const plain = (part) => {
      if (!needle) return out.push(part);
      const low = part.toLowerCase();
      // lower-casing may change a text's length; then positions would not fit, and nothing is marked
      if (low.length !== part.length) return out.push(part);
      let from = 0;
      for (let at = low.indexOf(needle); at >= 0; at = low.indexOf(needle, from)) {
        out.push(part.slice(from, at), el("mark", "", part.slice(at, at + needle.length)));
        from = at + needle.length;
      }
      out.push(part.slice(from));
    };
    let from = 0;
    for (const match of text.matchAll(CONTROL)) {
      plain(text.slice(from, match.index));
      out.push(el("span", "control", controlName(match[0])));
      from = match.index + match[0].length;
    }
    plain(text.slice(from));
    return out.filter((part) => part !== "");
  }

  const flat = (text) => text.replace(CONTROL, (c) => `[${controlName(c)}]`);
  const plainNames = names.map(flat);
  // more classes than distinct colours are told apart by their names alone
  const dot = (label) => (names.length > COLOURS ? "" : `dot c${label}`);
  const chip = (label) => el("span", `class ${dot(label)}`, el("bdi", "", ...shown(names[label])));
  const percent = (p) => (p > 0 && p < 0.005 ? "<1 %" : `${Math.round(100 * p)} %`);
  const number = (n) => n.toLocaleString("en");

  // ---- decisions, stored in this browser under the hash of the raw data: one key each, so that the
  // cost of a decision does not grow with their number

  const position = new Map(flagged.map((s, i) => [s.id, i]));
  const decisions = new Map(); // id -> {label?, skip?, note?, sha, old}
  let history = []; // [{id, label?, skip?}] what each decision replaced, oldest first
  let stored = true;

  function save(key, value) {
    try {
      if (value === null) localStorage.removeItem(STORE + key);
      else localStorage.setItem(STORE + key, JSON.stringify(value));
    } catch {
      if (stored) toast("This browser cannot store your progress: export before you close the page.", "", true);
      stored = false;
    }
  }

  function load() {
    decisions.clear();
    history = [];
    try {
      for (const key of Object.keys(localStorage)) {
        if (!key.startsWith(STORE)) continue;
        let value = null;
        try {
          value = JSON.parse(localStorage.getItem(key));
        } catch {
          continue;
        }
        if (key === `${STORE}history`) {
          if (Array.isArray(value)) history = value.filter((step) => position.has(step?.id));
          continue;
        }
        const id = key.slice(STORE.length + 2);
        if (!key.startsWith(`${STORE}d/`) || !valid(value)) continue;
        // decisions that data/corrections.csv already has need no second export
        if (value.label !== undefined && !position.has(id) && data.reviewed[id] === value.label) save(`d/${id}`, null);
        else decisions.set(id, value);
      }
    } catch {
      stored = false;
    }
  }

  function valid(record) {
    if (record === null || typeof record !== "object") return false;
    const strings = ["label", "note", "sha", "old"].every((k) => record[k] === undefined || typeof record[k] === "string");
    return strings && names.includes(record.old) && (record.label === undefined || names.includes(record.label));
  }

  function record(id, change) {
    const s = flagged[position.get(id)];
    const value = { ...decisions.get(id), ...change, sha: s.sha, old: names[s.old] };
    for (const key of ["label", "skip", "note"]) if (!value[key]) delete value[key];
    const empty = !value.label && !value.skip && !value.note;
    if (empty) decisions.delete(id);
    else decisions.set(id, value);
    save(`d/${id}`, empty ? null : value);
  }

  const idOf = (i) => flagged[i].id;

  function stateOf(i) {
    const d = decisions.get(idOf(i));
    if (d?.label !== undefined) return d.label === names[flagged[i].old] ? "kept" : "changed";
    return d?.skip ? "skipped" : "todo";
  }

  // ---- which flagged labels are listed, and in what order

  let view = [];
  let current = -1; // a position in flagged
  const haystack = flagged.map((s, i) => `${s.id}\n${documents[i].title}\n${documents[i].text}`.toLowerCase());
  const needle = () => $("search").value.trim().toLowerCase();
  const length = (i) => documents[i].text.length + (documents[i].more ?? 0);
  const shareOf = (s, label) => s.p.find(([other]) => other === label)?.[1];
  const collator = new Intl.Collator("en", { numeric: true });
  const ORDERS = {
    quality: () => 0,
    confident: (a, b) => shareOf(flagged[b], flagged[b].suggested) - shareOf(flagged[a], flagged[a].suggested),
    pair: (a, b) => flagged[a].given - flagged[b].given || flagged[a].suggested - flagged[b].suggested,
    short: (a, b) => length(a) - length(b),
    id: (a, b) => collator.compare(idOf(a), idOf(b)),
  };

  function refilter() {
    const words = needle();
    const state = $("state").value;
    const wanted = (i) => {
      const now = state === "all" ? "" : stateOf(i);
      return (
        filters.every((matches) => matches(flagged[i])) &&
        (!now || now === state || (state === "reviewed" && (now === "changed" || now === "kept"))) &&
        (!words || haystack[i].includes(words))
      );
    };
    view = flagged.map((_, i) => i).filter(wanted).sort((a, b) => ORDERS[$("sort").value](a, b) || a - b);
    $("empty").hidden = view.length > 0 || flagged.length === 0;
    $("list").hidden = view.length === 0;
    $("list").setAttribute("aria-label", `Flagged labels, ${view.length} listed`);
    show(view.includes(current) ? current : (view.find((i) => stateOf(i) === "todo") ?? view[0] ?? -1));
    drawList();
  }

  // ---- filters by class pair and metadata: the commonest values first

  const filters = [];
  const pairOf = (s) => [`${plainNames[s.given]} → ${plainNames[s.suggested]}`, `${plainNames[s.given]} → any`];
  const metadataOf = (at) => (s) => [flat(s.metadata[at]) || "(none)"];

  function addFilter(id, title, keysOf, ...kbd) {
    const groups = [];
    for (const s of flagged) {
      keysOf(s).forEach((key, group) => {
        groups[group] ??= new Map();
        groups[group].set(key, (groups[group].get(key) ?? 0) + 1);
      });
    }
    const ordered = groups.flatMap((counts) => [...counts].sort((a, b) => b[1] - a[1]));
    const options = new Map(ordered.map(([key, n]) => [`${key} (${number(n)})`, key]));
    const all = `All (${number(flagged.length)})`;
    const searched = options.size > MOST_OPTIONS;
    const control = el(searched ? "input" : "select", "filter");
    const label = el("label", kbd.length ? "wide" : "", el("span", "", ...shown(title)), ...kbd, control);
    let list = control;
    if (searched) {
      list = Object.assign(el("datalist", ""), { id: `${id}-list` });
      Object.assign(control, { type: "search", placeholder: `${all}, type to search`, autocomplete: "off", spellcheck: false });
      control.setAttribute("list", list.id);
      label.append(list);
    } else list.append(new Option(all, ""));
    list.append(...[...options.keys()].slice(0, 500).map((text) => new Option(text, text)));
    control.id = id;
    $("filters").querySelector("label:has(#state)").before(label);
    filters.push((s) => {
      const chosen = options.get(control.value);
      const typed = control.value.trim().toLowerCase();
      return chosen === undefined ? keysOf(s).some((key) => key.toLowerCase().includes(typed)) : keysOf(s).includes(chosen);
    });
  }

  // ---- the list: only visible rows are in the DOM

  function drawList() {
    const list = $("list");
    const space = $("list-space");
    space.style.height = `${view.length * ROW}px`;
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
    const last = Math.min(view.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + SPARE);
    const rows = [];
    for (let at = first; at < last; at++) {
      const i = view[at];
      const d = documents[i];
      const name = el("bdi", "name", ...shown((d.title || d.text).slice(0, 120)));
      name.dir = "auto";
      const row = el("div", "row", name, el("span", "pair", ...outcome(i)));
      row.id = `row-${i}`;
      row.role = "option";
      row.dataset.state = stateOf(i);
      row.setAttribute("aria-selected", i === current);
      row.setAttribute("aria-posinset", at + 1);
      row.setAttribute("aria-setsize", view.length);
      row.style.top = `${at * ROW}px`;
      rows.push(row);
    }
    space.replaceChildren(...rows);
    if (current >= 0) list.setAttribute("aria-activedescendant", `row-${current}`);
    else list.removeAttribute("aria-activedescendant");
  }

  // after a decision, a row shows the chosen label instead of the suggested one
  function outcome(i) {
    const s = flagged[i];
    const label = names.indexOf(decisions.get(idOf(i))?.label);
    if (label === s.given) return [chip(s.given)];
    return [chip(s.given), "→", chip(label >= 0 ? label : s.suggested)];
  }

  function reveal() {
    const list = $("list");
    const top = view.indexOf(current) * ROW;
    if (top < list.scrollTop) list.scrollTop = top - ROW;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + 2 * ROW - list.clientHeight;
  }

  // ---- the current document

  function show(i) {
    const other = i !== current;
    current = i;
    if (other) $("class-search").value = "";
    draw();
    if (other) for (const pane of ["document", "reading", "side"]) $(pane).scrollTop = 0;
    if (i >= 0) reveal();
  }

  function draw() {
    const s = flagged[current];
    for (const id of ["accept-button", "keep-button", "skip-button"]) $(id).disabled = !s;
    for (const part of $("document").children) part.hidden = !s;
    drawCounts();
    if (!s) {
      $("document").firstElementChild.hidden = false;
      $("where").textContent = "";
      $("title").textContent = flagged.length ? "No match" : "No flagged labels";
      $("text").textContent = flagged.length
        ? "No flagged label matches the search and the filters. Esc clears the search."
        : "No label is flagged as wrong, or all have been reviewed.";
      return;
    }
    const d = documents[current];
    const words = needle();
    const at = view.indexOf(current) + 1;
    $("where").replaceChildren(
      el("span", "", `${number(at)} of ${number(view.length)}`),
      el("bdi", "", ...shown(s.id, words)),
      el("span", "", `label quality ${s.quality.toFixed(2)}`),
    );
    $("title").replaceChildren(...shown(d.title, words));
    $("text").replaceChildren(...shown(d.text, words));
    if (d.more) $("text").append("… ", el("span", "control", `${number(d.more)} more characters`));
    $("metadata").replaceChildren(...data.metadata.map((name, at) => el("div", "", el("dt", "", ...shown(name)), el("dd", "", el("bdi", "", ...shown(s.metadata[at] || "–"))))));
    $("verdict").replaceChildren("Labelled", chip(s.given), "suggested", chip(s.suggested));
    drawLabels();
    $("accept-button").querySelector("bdi").replaceChildren(...shown(names[s.suggested]));
    $("keep-button").querySelector("bdi").replaceChildren(...shown(names[s.given]));
    $("note").value = decisions.get(s.id)?.note ?? "";
    $("why").replaceChildren(...reasons(s).map((reason) => el("li", "", ...reason)));
    if (document.activeElement === document.body) $("reading").focus({ preventScroll: true });
    $("neighbours").replaceChildren(...s.near.map(([n, similarity]) => neighbour(documents[n], similarity)));
  }

  const roleOf = (s, label) => (label === s.given ? "given" : label === s.suggested ? "suggested" : "");
  const byName = names.map((_, label) => label).sort((a, b) => collator.compare(names[a], names[b]));
  const typedClass = () => $("class-search").value.trim().toLowerCase();

  // the likeliest classes, or those that the search finds
  function listedClasses() {
    const s = flagged[current];
    const chosen = names.indexOf(decisions.get(s.id)?.label);
    const likeliest = s.p.map(([label]) => label);
    const typed = typedClass();
    if (!typed) return [...new Set(chosen < 0 ? likeliest : [...likeliest, chosen])];
    const is = (label) => plainNames[label].toLowerCase() === typed;
    const found = [...new Set([...likeliest, ...byName])].filter((label) => plainNames[label].toLowerCase().includes(typed));
    return found.sort((a, b) => is(b) - is(a));
  }

  function drawLabels() {
    const s = flagged[current];
    const chosen = decisions.get(s.id)?.label;
    const typed = typedClass();
    const found = listedClasses();
    const rows = found.slice(0, typed ? MOST_MATCHES : found.length).map((label, at) => {
      const key = typed ? (at ? "" : "↵") : at < 10 ? String((at + 1) % 10) : label === s.given ? "k" : "";
      return labelRow(s, label, chosen === names[label], key);
    });
    const rest = found.length - rows.length;
    const note = found.length ? `${number(rest)} more: type on` : "No class matches";
    $("labels").replaceChildren(...rows, ...(rest || !found.length ? [el("p", "", note)] : []));
    if (typed) announce(found.length ? `${number(found.length)} found. Enter sets ${plainNames[found[0]]}.` : note);
  }

  function labelRow(s, label, chosen, key) {
    const share = shareOf(s, label);
    const fill = el("span", dot(label));
    fill.style.width = `${100 * (share ?? 0)}%`;
    const part = roleOf(s, label);
    const role = chosen ? `✓ ${part || "chosen"}` : part;
    const row = el("button", "label", el("span", "", ...(key ? [el("kbd", "", key)] : [])), el("span", "named", chip(label), el("span", "role", role)), ...(share === undefined ? [] : [el("span", "share", percent(share)), el("span", "bar", fill)]));
    row.type = "button";
    row.dataset.label = label;
    row.setAttribute("aria-pressed", chosen);
    return row;
  }

  function reasons(s) {
    const kind = data.split === "test" ? "Mean probabilities by the models: " : "Out-of-fold probabilities, calibrated to the estimated noise rate: ";
    const out = [[kind, chip(s.given), ` ${percent(shareOf(s, s.given))}, `, chip(s.suggested), ` ${percent(shareOf(s, s.suggested))}`]];
    if (s.near.length) {
      const labelled = (label) => s.near.filter(([n]) => documents[n].label === label).length;
      const [all, like, same] = [s.near.length, labelled(s.suggested), labelled(s.given)];
      const count = (n) => (n === all ? `All ${all}` : n ? `${n} of the ${all}` : `None of the ${all}`);
      const also = s.suggested === s.given || like === all ? [] : [` and ${same || "none"} labelled `, chip(s.given)];
      out.push([`${count(like)} nearest documents ${like === 1 ? "is" : "are"} labelled `, chip(s.suggested), ...also]);
    }
    return out.concat(s.why.map((text) => shown(text)));
  }

  function neighbour(d, similarity) {
    const role = roleOf(flagged[current], d.label);
    const body = el("div", "body", ...(d.title ? [el("strong", "", el("bdi", "", ...shown(d.title))), " "] : []), el("bdi", "", ...shown(d.text)), d.more ? "…" : "");
    body.dir = "auto";
    return el("li", "", el("div", "head", chip(d.label), el("span", "", role && `${role}, `, `similarity ${percent(similarity)}`)), body);
  }

  function drawCounts() {
    const n = { changed: 0, kept: 0, skipped: 0, todo: 0 };
    flagged.forEach((_, i) => n[stateOf(i)]++);
    const elsewhere = [...decisions].filter(([id, d]) => d.label !== undefined && !position.has(id)).length;
    const done = n.changed + n.kept;
    const parts = [` of ${number(flagged.length)} reviewed`, `${number(n.changed)} changed`, `${number(n.kept)} kept`];
    if (n.skipped) parts.push(`${number(n.skipped)} skipped`);
    if (elsewhere) parts.push(`${number(elsewhere)} from an earlier list`);
    $("counts").replaceChildren(el("b", "", number(done)), parts.join(" · "));
    $("progress").setAttribute("aria-valuemax", flagged.length);
    $("progress").setAttribute("aria-valuenow", done);
    for (const bar of $("progress").children) bar.style.width = `${(100 * n[bar.className]) / Math.max(1, flagged.length)}%`;
    $("undo-button").disabled = history.length === 0;
  }

  // ---- actions

  function decide(label) {
    if (current < 0) return;
    const i = current;
    const before = decisions.get(idOf(i)) ?? {};
    history.push({ id: idOf(i), label: before.label, skip: before.skip });
    history = history.slice(-UNDO_STEPS);
    record(idOf(i), label === null ? { label: undefined, skip: true } : { label: names[label], skip: undefined });
    save("history", history);
    const next = nextToDo(i);
    const done = label === null ? "Skipped" : stateOf(i) === "kept" ? `Kept ${flat(names[label])}` : `Set to ${flat(names[label])}`;
    show(next ?? i);
    drawList();
    if (next === undefined) toast(`${done}. Nothing is left to do in this list. Export with e.`);
    announce(next === undefined ? done : `${done}. Next, labelled ${flat(names[flagged[next].given])}, suggested ${flat(names[flagged[next].suggested])}.`);
  }

  function clearClassSearch() {
    $("class-search").value = "";
    if (current >= 0) drawLabels();
  }

  function choose(label) {
    clearClassSearch();
    decide(label);
    toDocument();
  }

  function nextToDo(i) {
    const at = view.indexOf(i);
    return [...view.slice(at + 1), ...view.slice(0, at)].find((other) => stateOf(other) === "todo");
  }

  function undo() {
    const step = history.pop();
    if (!step) return;
    record(step.id, { label: names.includes(step.label) ? step.label : undefined, skip: step.skip === true });
    save("history", history);
    const i = position.get(step.id);
    if (!view.includes(i)) clearFilters();
    show(i);
    drawList();
    announce("Undone.");
  }

  function move(by) {
    if (!view.length) return;
    const at = Math.min(view.length - 1, Math.max(0, view.indexOf(current) + by));
    show(view[at]);
    drawList();
  }

  function clearFilters() {
    for (const control of [$("search"), ...document.querySelectorAll(".filter")]) control.value = "";
    $("state").value = "all";
    refilter();
  }

  function exportCsv() {
    const quote = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const rows = [...decisions].filter(([, d]) => d.label !== undefined).sort(([a], [b]) => (a < b ? -1 : 1));
    if (!rows.length) return toast("No decisions yet: there is nothing to export.");
    const lines = rows.map(([id, d]) => [data.dataset, id, d.sha, d.old, d.label, d.note ?? ""].map(quote).join(","));
    const text = `${["dataset,id,text_sha256,old_label,new_label,note", ...lines].join("\n")}\n`;
    const link = el("a", "");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    link.download = "corrections.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    return toast(`${number(rows.length)} decision${rows.length > 1 ? "s" : ""} exported. Apply with`, "python -m tools.review apply corrections.csv");
  }

  let hide = 0;
  function toast(text, code = "", warn = false) {
    $("toast").querySelector("p").textContent = text;
    $("toast").querySelector("code").textContent = code;
    $("toast").classList.toggle("warn", warn);
    $("toast").hidden = false;
    announce(`${text} ${code}`);
    clearTimeout(hide);
    if (!warn) hide = setTimeout(() => ($("toast").hidden = true), 12000);
  }

  function announce(text) {
    $("announce").textContent = text;
  }

  function setNote() {
    if (current < 0) return;
    record(idOf(current), { note: $("note").value.replace(/[\r\n\u0085\u2028\u2029]+/g, " ").trim() });
  }

  function toggleList(open) {
    $("flagged").classList.toggle("open", open);
    $("list-button").setAttribute("aria-expanded", open);
    if (open) {
      reveal();
      drawList();
    }
  }

  const narrow = matchMedia("(max-width: 60rem)");
  const openList = () => (narrow.matches ? toggleList(true) : undefined);
  const toDocument = () => {
    toggleList(false);
    $("reading").focus({ preventScroll: true });
  };
  const into = (id) => () => {
    if (id !== "note" && id !== "class-search") openList();
    $(id).focus();
    if ($(id).type === "search") $(id).select();
  };

  const KEYS = {
    a: () => current >= 0 && decide(flagged[current].suggested),
    k: () => current >= 0 && decide(flagged[current].given),
    s: () => decide(null),
    u: undo,
    g: () => {
      const next = nextToDo(current);
      if (next !== undefined) show(next);
      drawList();
    },
    e: exportCsv,
    n: into("note"),
    c: () => !$("class-search-label").hidden && into("class-search")(),
    "/": into("search"),
    f: into("pair"),
    w: into("state"),
    o: into("sort"),
    l: () => ($("flagged").classList.contains("open") ? toDocument() : into("list")()),
    "?": () => $("keys").showModal(),
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    PageDown: () => $("reading").scrollBy(0, 0.8 * $("reading").clientHeight),
    PageUp: () => $("reading").scrollBy(0, -0.8 * $("reading").clientHeight),
    Home: () => move(-view.length),
    End: () => move(view.length),
  };

  document.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const { key, target } = event;
    if ($("keys").open) {
      if (key === "?") $("keys").close();
      return;
    }
    const editing = target.matches("input, select");
    if (key === "Escape") {
      if (target.id === "search" && target.value) {
        target.value = "";
        refilter();
      } else if (target.id === "class-search") {
        clearClassSearch();
        toDocument();
      } else if (!editing && !$("toast").hidden) $("toast").hidden = true;
      else toDocument();
      event.preventDefault();
    } else if (target.id === "class-search" && key === "Enter") {
      if (typedClass() && listedClasses().length) choose(listedClasses()[0]);
    } else if (target.matches("input") && key === "Enter") {
      // a value chosen from the browser's list arrives after the key
      if (target.list) return void setTimeout(toDocument);
      toDocument();
      event.preventDefault();
    } else if (editing || event.altKey) {
      return;
    } else if (event.ctrlKey || event.metaKey) {
      if (key.toLowerCase() === "z" && !event.shiftKey) {
        undo();
        event.preventDefault();
      }
    } else if (/^[0-9]$/.test(key)) {
      const at = (Number(key) + 9) % 10;
      if (current >= 0 && at < flagged[current].p.length && !event.repeat) decide(flagged[current].p[at][0]);
    } else if (key === "Enter" && target.id === "list") {
      toDocument();
    } else {
      // a key held down must not label many documents
      const action = KEYS[key] ?? KEYS[key.toLowerCase()];
      const decides = "aksu".includes(key.toLowerCase());
      if (!action) return;
      event.preventDefault();
      if (!(decides && event.repeat)) action();
    }
  });

  const on = (id, event, action) => $(id).addEventListener(event, action);
  on("accept-button", "click", KEYS.a);
  on("keep-button", "click", KEYS.k);
  on("skip-button", "click", KEYS.s);
  on("undo-button", "click", undo);
  on("export-button", "click", exportCsv);
  on("keys-button", "click", KEYS["?"]);
  on("list-button", "click", KEYS.l);
  on("toast-button", "click", () => ($("toast").hidden = true));
  on("clear-button", "click", clearFilters);
  on("filters", "submit", (event) => event.preventDefault());
  on("filters", "input", refilter);
  on("class-search", "input", drawLabels);
  on("note", "change", setNote);
  on("labels", "click", (event) => {
    const row = event.target.closest(".label");
    if (!row) return;
    choose(Number(row.dataset.label));
  });
  on("list", "click", (event) => {
    const row = event.target.closest(".row");
    if (!row) return;
    show(Number(row.id.slice("row-".length)));
    drawList();
    if (narrow.matches) toDocument();
  });
  let drawing = false;
  on("list", "scroll", () => {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => {
      drawing = false;
      drawList();
    });
  });
  addEventListener("resize", drawList);
  // the same page in another tab
  addEventListener("storage", (event) => {
    if (event.key !== null && !event.key.startsWith(STORE)) return;
    load();
    draw();
    drawList();
  });
  addEventListener("beforeunload", (event) => {
    if (!stored && decisions.size) event.preventDefault();
  });

  document.title = `${data.dataset}: label review`;
  $("corpus").replaceChildren(...shown(data.dataset));
  $("notes").hidden = data.notes.length === 0;
  $("notes").open = innerHeight > 700;
  $("notes").append(...data.notes.map((note) => el("p", "", ...shown(note))));
  $("class-search-label").hidden = flagged.every((s) => s.p.length === names.length);
  $("class-search").placeholder = `Search all ${names.length} classes`;
  addFilter("pair", "Class pair", pairOf, el("kbd", "", "f"));
  data.metadata.forEach((name, at) => addFilter(`metadata-${at}`, name, metadataOf(at)));
  load();
  refilter();
  $("reading").focus({ preventScroll: true });
})();
