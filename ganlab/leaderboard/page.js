"use strict";
const table = document.getElementById("board");
const body = table.tBodies[0];

// Empty cells come last in either order.
function compare(a, b, sign) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const [x, y] = [Number(a), Number(b)];
  return sign * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y);
}

function sortBy(heading) {
  const column = heading.cellIndex;
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const key = (row) => row.cells[column].dataset.value;
  body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b), ascending ? 1 : -1)));
}

for (const heading of table.tHead.rows[0].cells) {
  heading.querySelector("button").addEventListener("click", () => sortBy(heading));
}

// The search hides a configuration in the table and in all figures.
const search = document.getElementById("search");
const found = document.getElementById("found");
search.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of body.rows) {
    const text = row.dataset.text.toLowerCase();
    const fits = words.every((word) => text.includes(word));
    shown += fits;
    for (const part of document.querySelectorAll(`[data-row="${row.dataset.row}"]`)) part.hidden = !fits;
  }
  found.textContent = `${shown} of ${body.rows.length}`;
});
