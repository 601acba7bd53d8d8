// Sorting and filtering of tables, and the choice of a theme. Pages read without it.
"use strict";

const root = document.documentElement;
const THEME = "afbench-theme";

function stored() {
  try { return localStorage.getItem(THEME); } catch { return null; }
}
function store(theme) {
  try { localStorage.setItem(THEME, theme); } catch { /* private window: for this page only */ }
}
if (stored() === "light" || stored() === "dark") root.dataset.theme = stored();

function themeButton() {
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const button = document.createElement("button");
  const show = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.type = "button";
  button.className = "theme";
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    store(root.dataset.theme);
    show();
  });
  show();
  document.querySelector(".top").append(button);
}

// A cell's value: a number where it begins with one, otherwise its text; null where there is none.
function valueOf(cell) {
  const text = (cell.dataset.v ?? cell.textContent).trim().replaceAll("\u2212", "-");
  const number = Number.parseFloat(text);
  if (!Number.isNaN(number)) return number;
  return text === "" || text === "n/a" || text === "\u2013" ? null : text.toLowerCase();
}
function compare(a, b) {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}
function sortBy(table, heading, direction) {
  const column = heading.cellIndex;
  const body = table.tBodies[0];
  const sign = direction === "ascending" ? 1 : -1;
  const rows = [...body.rows].map((row) => ({
    row, last: row.classList.contains("un"), value: valueOf(row.cells[column]),
  }));
  rows.sort((a, b) => {
    if (a.last !== b.last) return a.last ? 1 : -1;
    if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
    return sign * compare(a.value, b.value);
  });
  body.append(...rows.map((one) => one.row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
}
function sortable(table) {
  for (const heading of table.tHead.rows[0].querySelectorAll("th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const now = heading.getAttribute("aria-sort");
      const first = heading.classList.contains("n") ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      sortBy(table, heading, now === first ? second : first);
    });
  }
}

// The columns of AUROC and of its picture in the table of results.
const AUROC = 2;

// AUROC within one environment in place of that over all; what stood there comes back.
function showEnvironment(table, index) {
  const heading = table.tHead.rows[0].cells[AUROC];
  for (const row of table.tBodies[0].rows) {
    const [cell, plot] = [row.cells[AUROC], row.cells[AUROC + 1]];
    row.kept ??= [[...cell.childNodes], [...plot.childNodes]];
    if (index === "") {
      cell.replaceChildren(...row.kept[0]);
      plot.replaceChildren(...row.kept[1]);
      continue;
    }
    const code = (row.dataset.e ?? "").slice(2 * index, 2 * index + 2);
    const value = code === "++" ? 1 : Number.parseInt(code, 10) / 100;
    const known = !Number.isNaN(value);
    cell.replaceChildren(known ? value.toFixed(2) : "n/a");
    plot.replaceChildren();
    if (known) plot.append(dot(value));
  }
  sortBy(table, heading, "descending");
}
function dot(value) {
  const space = "http://www.w3.org/2000/svg";
  const x = (at) => 4 + 132 * (Math.min(1, Math.max(0.3, at)) - 0.3) / 0.7;
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("aria-hidden", "true");
  for (const [name, line] of [["r0", `M${x(0.5)} 0v16`], ["", `M${x(value)} 8h0`]]) {
    const path = document.createElementNS(space, "path");
    path.setAttribute("class", name);
    path.setAttribute("d", line);
    svg.append(path);
  }
  return svg;
}

function filterable(form) {
  const table = document.getElementById(form.dataset.for);
  const chosen = (name) => form.elements.namedItem(name)?.value ?? "";
  let environment = "";
  const apply = () => {
    const words = chosen("q").toLowerCase().split(/\s+/).filter(Boolean);
    const [tier, contrast, budget] = ["tier", "contrast", "budget"].map(chosen);
    const floors = form.elements.namedItem("floors")?.checked ?? true;
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      const cost = Number(row.querySelector("[data-v]")?.dataset.v ?? 0);
      const keep = words.every((word) => text.includes(word))
        && (!tier || [...row.cells].at(-2).textContent === tier)
        && (!contrast || (row.querySelector("th abbr") !== null) === (contrast === "yes"))
        && (budget === "" || cost <= Number(budget))
        && (floors || !row.classList.contains("floor"));
      row.hidden = !keep;
      shown += keep;
    }
    if (chosen("environment") !== environment) {
      environment = chosen("environment");
      showEnvironment(table, environment);
    }
    const of = table.tBodies[0].rows.length;
    const within = environment === "" ? ""
      : ` AUROC within ${form.elements.namedItem("environment").selectedOptions[0].text}, without an interval; the other columns are of all environments.`;
    form.querySelector(".shown").textContent = `${shown} of ${of} shown.${within}`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  form.hidden = false;
  apply();
}

document.addEventListener("DOMContentLoaded", () => {
  themeButton();
  document.querySelectorAll("table[data-sort]").forEach(sortable);
  document.querySelectorAll("form.filters").forEach(filterable);
});
