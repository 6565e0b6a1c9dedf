"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const training = JSON.parse(document.getElementById("training").textContent);
const choices = [...document.querySelectorAll("select[data-id]")];

function choose(select) {
  figures[select.dataset.id] = training[select.dataset.id][select.value];
  select.closest("figure").querySelector(".note").textContent = select.selectedOptions[0].dataset.about;
}

choices.forEach(choose);
const plots = Object.keys(figures).map((id) => document.getElementById(id));
const dark = matchMedia("(prefers-color-scheme: dark)");
const hidden = new Set();

function colours() {
  const style = getComputedStyle(document.documentElement);
  return { ink: style.getPropertyValue("--ink").trim(), soft: style.getPropertyValue("--soft").trim() };
}

// Black lines follow the ink, so that they are seen on a dark page.
function inked(trace, ink) {
  const own = structuredClone(trace);
  for (const part of [own.line, own.marker]) {
    if (part && part.color === "#000000") part.color = ink;
  }
  own.visible = !hidden.has(own.legendgroup);
  return own;
}

function draw() {
  const { ink, soft } = colours();
  const narrow = innerWidth < 600;
  for (const plot of plots) {
    const { data, layout } = structuredClone(figures[plot.id]);
    for (const [name, axis] of Object.entries(layout)) {
      if (/^[xy]axis/.test(name)) {
        Object.assign(axis, { gridcolor: soft, linecolor: soft, zeroline: false });
        if (narrow && axis.nticks) axis.nticks = Math.ceil(axis.nticks / 2);
        if (name === "yaxis") axis.automargin = true;
      }
    }
    for (const shape of layout.shapes || []) shape.line.color = ink;
    Plotly.react(plot, data.map((trace) => inked(trace, ink)), {
      hovermode: narrow ? "closest" : "x unified",
      ...layout,
      showlegend: false,
      dragmode: narrow ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink },
      hoverlabel: { bgcolor: getComputedStyle(document.body).backgroundColor, font: { color: ink } },
      font: { color: ink, family: "system-ui, sans-serif", size: narrow ? 11 : 13 },
      margin: { l: narrow ? 44 : 56, r: 20, t: 24, b: 46 },
    }, { responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover" });
  }
}

// A long legend would cover the figures that it stays above.
const legend = document.getElementById("legend");
const fit = () => legend.classList.toggle("long", legend.offsetHeight > innerHeight / 5);
addEventListener("resize", fit);
fit();

legend.addEventListener("change", ({ target }) => {
  hidden[target.checked ? "delete" : "add"](target.value);
  for (const plot of plots) {
    Plotly.restyle(plot, { visible: plot.data.map((trace) => !hidden.has(trace.legendgroup)) });
  }
  for (const row of document.querySelectorAll("tr[data-row]")) {
    row.classList.toggle("off", hidden.has(row.dataset.row));
  }
});

for (const header of document.querySelectorAll(".sortable thead th")) {
  const button = document.createElement("button");
  button.append(...header.childNodes);
  header.append(button);
  button.addEventListener("click", () => {
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[header.cellIndex].dataset.value ?? row.cells[header.cellIndex].textContent.trim();
    const body = header.closest("table").tBodies[0];
    const order = (a, b) => key(a).localeCompare(key(b), "en", { numeric: true });
    const value = (row) => (key(row) === "" ? NaN : Number(key(row)));
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const found = Number.isNaN(x) || Number.isNaN(y) ? order(a, b) : x - y;
      return down ? -found : found;
    });
    body.append(...rows);
  });
}

for (const select of choices) {
  select.addEventListener("change", () => {
    choose(select);
    draw();
  });
}
dark.addEventListener("change", draw);
draw();
document.body.dataset.drawn = "yes";
