"use strict";
// Values under the pointer, legends that hide curves, tables that are sorted, and
// details that are open in print, but for long tables. The page is complete without any of these.
function read(plot) {
  return JSON.parse(plot.dataset.values);
}
function show(plot, x) {
  const values = read(plot);
  const all = values.series.flatMap((one) => one.x);
  const at = all.reduce((a, b) => (Math.abs(b - x) < Math.abs(a - x) ? b : a), all[0]);
  const parts = [];
  for (const one of values.series) {
    const place = one.x.indexOf(at);
    if (place >= 0) parts.push(one.label + ": " + one.y[place]);
  }
  const caption = plot.parentElement.querySelector("figcaption");
  if (caption.dataset.whole === undefined) {
    caption.dataset.whole = caption.textContent;
    caption.style.minHeight = caption.offsetHeight + "px";
  }
  caption.textContent = (values.name ? values.name + " " + at + ". " : "") + parts.join("; ");
  let cursor = plot.querySelector(".cursor");
  if (!cursor) {
    cursor = document.createElement("div");
    cursor.className = "cursor";
    plot.append(cursor);
  }
  const [left, top, width, height] = values.box;
  const [low, high] = values.xlim;
  const scale = values.log ? Math.log : (v) => v;
  const share = (scale(at) - scale(low)) / (scale(high) - scale(low));
  cursor.style.left = (left + share * width) * 100 + "%";
  cursor.style.top = top * 100 + "%";
  cursor.style.height = height * 100 + "%";
  plot.dataset.at = at;
}
function hide(plot) {
  const caption = plot.parentElement.querySelector("figcaption");
  if (caption.dataset.whole !== undefined) caption.textContent = caption.dataset.whole;
  plot.querySelector(".cursor")?.remove();
}
function step(plot, direction) {
  const all = [...new Set(read(plot).series.flatMap((one) => one.x))].sort((a, b) => a - b);
  const now = all.indexOf(Number(plot.dataset.at));
  const next = now < 0 ? all.length - 1 : now + direction;
  show(plot, all[Math.max(0, Math.min(all.length - 1, next))]);
}
function preparePlot(plot) {
  plot.addEventListener("pointermove", (event) => {
    const values = read(plot);
    const box = plot.querySelector("svg").getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width - values.box[0]) / values.box[2];
    const [low, high] = values.xlim;
    show(plot, values.log ? low * (high / low) ** share : low + share * (high - low));
  });
  plot.addEventListener("pointerleave", () => hide(plot));
  plot.addEventListener("blur", () => hide(plot));
  plot.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      step(plot, event.key === "ArrowLeft" ? -1 : 1);
      event.preventDefault();
    } else if (event.key === "Escape") hide(plot);
  });
}
function prepareLegend(button) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    for (const part of document.querySelectorAll('[id^="' + button.dataset.curve + '"]'))
      if (part.id === button.dataset.curve || part.id.startsWith(button.dataset.curve + "."))
        part.style.display = shown ? "" : "none";
  });
}
function number(text) {
  const plain = text.trim().replace(/,/g, "");
  return plain === "∞" ? Infinity : plain === "" || plain === "–" ? NaN : Number(plain);
}
function sort(table, column, ascending) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const cell = (row) => row.cells[column].textContent.trim();
  const key = (row) => {
    const given = row.cells[column].dataset.key;
    return number(given === undefined ? cell(row) : given);
  };
  const numeric = rows.some((row) => !isNaN(key(row)));
  const sign = ascending ? 1 : -1;
  rows.sort((a, b) => {
    if (!numeric) return sign * cell(a).localeCompare(cell(b), undefined, { numeric: true });
    const [x, y] = [key(a), key(b)];
    // Cells without a value come last either way.
    return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : x === y ? 0 : sign * (x < y ? -1 : 1);
  });
  body.append(...rows);
  for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
  table.tHead.rows[0].cells[column].setAttribute("aria-sort", ascending ? "ascending" : "descending");
}
function prepareTable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.className = "sort";
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () =>
      sort(table, column, head.getAttribute("aria-sort") !== "ascending"));
  });
}
function markWide() {
  for (const scroll of document.querySelectorAll(".holder > .scroll"))
    scroll.parentElement.classList.toggle("has-more", scroll.scrollWidth > scroll.clientWidth + 2);
}
function prepare() {
  document.querySelectorAll(".plot[data-values]").forEach(preparePlot);
  document.querySelectorAll(".legend button").forEach(prepareLegend);
  document.querySelectorAll("table.sortable").forEach(prepareTable);
  document.querySelectorAll("details").forEach((one) => one.addEventListener("toggle", markWide));
  markWide();
}
prepare();
addEventListener("resize", markWide);
addEventListener("beforeprint", () => {
  document.querySelectorAll("details:not([open]):not(.long)").forEach((one) => {
    one.open = true;
    one.dataset.printed = "";
  });
});
addEventListener("afterprint", () => {
  document.querySelectorAll("details[data-printed]").forEach((one) => {
    one.open = false;
    delete one.dataset.printed;
  });
});
