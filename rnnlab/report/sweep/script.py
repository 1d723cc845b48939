"""What the page does when it is used, and its own style; without the script it is a page to read.

Tables named in `table.sortable` are sorted by their heads, `form.filter` hides rows of one, `form.tools`
changes the pictures. Cells are compared by `data-key`, else by their text.
"""

SCRIPT = """
"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const key = cell => cell ? cell.dataset.key ?? cell.textContent : "";
  const numeric = text => text !== "" && !Number.isNaN(Number(text));
  const words = new Intl.Collator(undefined, {numeric: true});

  // what was chosen is kept for the next time the page loads itself
  const place = "rnnlab " + location.pathname;
  let kept = {};
  try { kept = JSON.parse(sessionStorage.getItem(place)) || {}; } catch { /* forbidden */ }
  const keep = (name, value) => {
    kept[name] = value;
    try { sessionStorage.setItem(place, JSON.stringify(kept)); } catch { /* forbidden */ }
  };

  const sort = (table, column, order) => {
    const rows = [...table.tBodies[0].rows];
    const keys = new Map(rows.map(row => [row, key(row.cells[column])]));
    const there = [...keys.values()].filter(text => text !== "");
    const numbers = there.every(numeric);
    const sign = order === "descending" ? -1 : 1;
    rows.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (x === "" || y === "") return (x === "") - (y === "");  // what has no value is last either way
      return sign * (numbers ? x - y : words.compare(x, y));
    });
    table.tBodies[0].append(...rows);
    all("thead th", table).forEach((head, i) =>
      i === column ? head.setAttribute("aria-sort", order) : head.removeAttribute("aria-sort"));
  };

  for (const table of all("table.sortable")) {
    all("thead th", table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
        sort(table, column, order);
        keep("sort " + table.id, [column, order]);
      });
    });
    const before = kept["sort " + table.id];
    if (before) sort(table, ...before);
  }

  const restore = form => {
    for (const [name, value] of kept["form " + form.className] || []) {
      const field = form.elements.namedItem(name);
      if (field) field.value = value;
    }
    form.hidden = false;
    form.addEventListener("submit", event => event.preventDefault());
  };

  for (const form of all("form.filter")) {
    const rows = [...document.getElementById(form.dataset.table).tBodies[0].rows];
    const texts = new Map(rows.map(row => [row, row.textContent.toLowerCase()]));
    const fits = (row, field) => {
      if (field.value === "") return true;
      if (field.name === "words")
        return field.value.toLowerCase().split(/\\s+/).every(word => texts.get(row).includes(word));
      const found = key(row.cells[field.dataset.column]);
      if (!field.dataset.end) return found === field.value;
      if (!numeric(found)) return false;
      return field.dataset.end === "lowest" ? found >= +field.value : found <= +field.value;
    };
    const choose = () => {
      const fields = all("input, select", form);
      let left = 0;
      for (const row of rows) {
        row.hidden = !fields.every(field => fits(row, field));
        left += !row.hidden;
      }
      form.querySelector("output").textContent = `${left} of ${rows.length} runs`;
      keep("form " + form.className, fields.map(field => [field.name, field.value]));
    };
    restore(form);
    form.addEventListener("input", choose);
    form.addEventListener("reset", () => setTimeout(choose));
    choose();
  }

  for (const form of all("form.tools")) {
    const [picture, size] = ["picture", "size"].map(name => form.elements.namedItem(name));
    const gallery = form.nextElementSibling;
    const choose = () => {
      if (resized) gallery.style.setProperty("--size", size.value + "rem");
      for (const shot of all("figure", gallery)) {
        const there = shot.dataset.has.split(" ").includes(String(picture.selectedIndex));
        const image = shot.querySelector("img"), missing = shot.querySelector(".missing");
        const source = `${shot.dataset.run}/figures/${encodeURIComponent(picture.value)}`;
        if (there && image.getAttribute("src") !== source) image.src = source;
        image.hidden = !there;
        missing.hidden = there;
        missing.textContent = "no " + picture.value;
      }
      const chosen = resized ? [picture, size] : [picture];
      keep("form " + form.className, chosen.map(field => [field.name, field.value]));
    };
    let resized = (kept["form " + form.className] || []).length > 1;
    restore(form);
    form.addEventListener("input", event => { resized ||= event.target === size; choose(); });
    choose();
  }
})();
"""

STYLE = """
th button { all: unset; cursor: pointer; white-space: nowrap; }
th button:hover, th button:focus-visible { color: var(--ink); text-decoration: underline; }
th button::after { content: " \\2195"; opacity: .45; }
th[aria-sort=ascending] button::after { content: " \\25B2"; opacity: 1; }
th[aria-sort=descending] button::after { content: " \\25BC"; opacity: 1; }
[hidden] { display: none !important; }
.wide:has(> .sortable) { width: fit-content; min-width: 100%; max-width: calc(100vw - 3rem);
  position: relative; left: 50%; transform: translateX(-50%); }
.sortable td { white-space: nowrap; }
.sortable .error { width: 14rem; white-space: normal; display: -webkit-box; -webkit-box-orient: vertical;
  -webkit-line-clamp: 2; overflow: hidden; }
.sortable ul { margin: .2rem 0; padding-left: 1.2rem; white-space: nowrap; }
details.note { margin: .6rem 0; }
.filter, .tools { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; margin: .6rem 0; }
.filter fieldset { border: 0; margin: 0; padding: 0; display: flex; gap: .35rem; align-items: center; }
.filter legend { float: left; padding: 0; margin-right: .35rem; }
.filter label, .filter legend, .tools label { color: var(--dim); font-size: .9rem; }
.filter input, .filter select, .filter button, .tools select { font: inherit; font-size: .9rem;
  color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: .2rem .4rem; max-width: 100%; }
.filter input[type=number] { width: 7rem; }
.tools input { vertical-align: middle; }
.bar { display: inline-block; position: relative; width: min(22rem, 40vw); height: .9rem; margin-top: .3rem;
  background: var(--card); border-radius: 3px; }
.bar b { display: block; height: 100%; background: #0072b2; border-radius: 3px; }
.bar.undecided b { background: #8d949e; }
.bar i { position: absolute; top: -.15rem; bottom: -.15rem; width: 2px; background: #d55e00; }
.effects td:last-child { min-width: 16rem; }
.gallery { --wide: min(1660px, 100vw - 3rem); width: var(--wide); margin-left: calc(50% - var(--wide) / 2);
  overflow-x: auto; --fitting: clamp(14rem, (var(--wide) - 9rem) / var(--columns) - 1rem, 40rem); }
.gallery table { margin: 0 auto; }
.gallery th, .gallery td { border: 0; padding: .3rem .6rem .3rem 0; }
.gallery tbody th { white-space: nowrap; }
.gallery ol { display: flex; flex-wrap: wrap; gap: 1rem; list-style: none; margin: 0; padding: 0; }
.gallery li b { display: block; font-size: .85rem; max-width: var(--size, var(--fitting)); }
.gallery figure { width: var(--size, var(--fitting)); max-width: calc(100vw - 3rem); margin: .2rem 0 .6rem; }
.gallery img { width: 100%; min-height: 4rem; border-radius: 4px; }
.missing { color: var(--dim); border: 1px dashed var(--line); border-radius: 4px; padding: 1rem;
  margin: 0; text-align: center; }
.js-plotly-plot .parcoords .domain { stroke: var(--dim) !important; stroke-opacity: 1 !important; }
.js-plotly-plot .parcoords text { fill: var(--ink) !important; text-shadow: 0 0 2px var(--paper),
  0 0 3px var(--paper), 0 0 4px var(--paper), 0 0 5px var(--paper) !important; }
"""
