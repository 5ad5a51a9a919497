"use strict";
// Everything on the page is readable without this script. It sorts tables, shows tooltips, zooms, and shows the facts
// that the pipeline has put into a copy of the page.
const tip = document.getElementById("tip");

function show(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  tip.style.left = Math.max(8, Math.min(x + 12, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = (y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 10 : y + 18) + "px";
}

for (const title of document.querySelectorAll("svg title")) {
  const element = title.parentNode;
  element.dataset.tip = title.textContent;
  element.setAttribute("aria-label", title.textContent);
  title.remove(); // the browser's own tooltip is late, and phones have none
}
for (const kind of ["pointermove", "pointerdown"]) {
  document.addEventListener(kind, (event) => {
    const element = event.target.closest("[data-tip]");
    if (element) show(element.dataset.tip, event.clientX, event.clientY);
    else tip.hidden = true;
  });
}

function sort(heading) {
  const table = heading.closest("table"), body = table.tBodies[0];
  const column = [...heading.parentNode.children].indexOf(heading);
  const key = (row) => {
    const cell = row.cells[column];
    return cell.dataset.sort === undefined ? cell.textContent.trim() : Number(cell.dataset.sort);
  };
  const first = [...body.rows].map(key).find((value) => value !== "");
  const order = heading.getAttribute("aria-sort");
  const down = order ? order === "ascending" : typeof first === "number";
  for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...body.rows].map((row, index) => ({ row, index, value: key(row) }));
  rows.sort((a, b) => {
    if ((a.value === "") !== (b.value === "")) return a.value === "" ? 1 : -1;
    const compared = typeof a.value === "number" && typeof b.value === "number"
      ? a.value - b.value : String(a.value).localeCompare(String(b.value), "en", { numeric: true });
    return (down ? -compared : compared) || a.index - b.index;
  });
  body.append(...rows.map((entry) => entry.row));
}

function makeSortable(table) {
  for (const heading of table.tHead.rows[0].cells) {
    heading.tabIndex = 0;
    heading.addEventListener("click", () => sort(heading));
    heading.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(heading); }
    });
  }
}
document.querySelectorAll("table").forEach(makeSortable);

for (const button of document.querySelectorAll("[data-zoom]")) {
  const svg = button.closest(".zoom").querySelector("svg");
  button.addEventListener("click", () => {
    const factor = Number(button.dataset.zoom);
    if (!factor) { svg.style.width = svg.style.maxWidth = ""; return; }
    svg.style.width = svg.getBoundingClientRect().width * factor + "px";
    svg.style.maxWidth = "none";
  });
}

for (const select of document.querySelectorAll("[data-map]")) {
  select.addEventListener("change", () => {
    for (const spot of select.closest(".textmap").querySelectorAll(".spot"))
      spot.classList.toggle("faded", select.value !== "" && spot.dataset.group !== select.value);
  });
}

function addTable(section, columns, rows) {
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const column of columns) head.append(Object.assign(document.createElement("th"), { textContent: column }));
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const cell of row) {
      const item = line.insertCell();
      if (cell !== null && typeof cell === "object") { item.textContent = cell.text; item.dataset.sort = cell.sort; item.className = "number"; }
      else item.textContent = cell ?? "";
    }
  }
  const frame = Object.assign(document.createElement("div"), { className: "scroll" });
  frame.append(table);
  section.append(frame);
  makeSortable(table);
}

const facts = JSON.parse(document.getElementById("run").textContent);
if (facts) {
  const section = document.getElementById("run-facts");
  section.hidden = false;
  document.querySelector('nav a[href="#run-facts"]').hidden = false;
  section.append(Object.assign(document.createElement("p"), { textContent: facts.summary }));
  for (const link of facts.links) {
    const line = document.createElement("p");
    line.append(Object.assign(document.createElement("a"), { href: link.address, textContent: link.text }));
    section.append(line);
  }
  if (facts.decisions.length) addTable(section, facts.decision_columns, facts.decisions);
  addTable(section, facts.stage_columns, facts.stages);
  for (const [stage, text, outcome] of facts.marks)
    for (const box of document.querySelectorAll(".stage")) {
      if (box.dataset.stage !== stage) continue;
      if (text) box.querySelector(".time").textContent += ", " + text;
      box.dataset.tip += `, ${outcome}${text ? " in " + text : ""}`;
      if (outcome === "failed") box.classList.add("failed");
    }
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((entry) => { entry.open = true; }));
