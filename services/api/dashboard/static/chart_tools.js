// What people do to charts: one bar for all of them, and a menu at each. What is chosen is kept in this browser.
import { AXES } from "./axes.js";
import { savePicture, saveTable } from "./downloads.js";

const KEPT = "curves";

export function keptSettings() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    // what cannot be read is as if nothing had been kept
  }
  return {
    axis: kept.axis in AXES ? kept.axis : "batch",
    smoothing: Math.min(Math.max(Number(kept.smoothing) || 0, 0), 0.99),
    logarithmic: kept.logarithmic === true,
    calm: kept.calm === true,
    hidden: new Set(Array.isArray(kept.hidden) ? kept.hidden : []),
  };
}

export function bindTools(bar, curves) {
  const { settings } = curves;
  const at = (name) => bar.elements[name];
  const keep = () => {
    localStorage.setItem(KEPT, JSON.stringify({ ...settings, hidden: [...settings.hidden] }));
    curves.refresh();
  };
  const show = () => {
    bar.hidden = !curves.panels.some((panel) => curves.hasValues(panel));
    at("axis").value = settings.axis;
    at("smoothing").value = settings.smoothing;
    at("logarithmic").checked = settings.logarithmic;
    at("calm").checked = settings.calm;
    for (const box of bar.querySelectorAll("[name=panel]")) {
      box.checked = !settings.hidden.has(box.value);
      box.closest("li").hidden = !curves.hasValues(curves.panels.find((panel) => panel.key === box.value));
    }
    bar.querySelector("[data-count]").textContent = settings.hidden.size ? `${settings.hidden.size} hidden` : "";
    bar.querySelector("[data-smoothing]").textContent = settings.smoothing ? String(settings.smoothing) : "off";
  };
  const hide = (key, hidden) => {
    settings.hidden[hidden ? "add" : "delete"](key);
    keep();
    show();
  };

  bar.addEventListener("submit", (event) => event.preventDefault());
  bar.addEventListener("input", ({ target }) => {
    if (target.name === "panel") return hide(target.value, !target.checked);
    if (target.name === "smoothing") settings.smoothing = Number(target.value);
    else if (target.name === "logarithmic" || target.name === "calm") settings[target.name] = target.checked;
    else if (target.name === "axis") {
      settings.axis = target.value;
      curves.choose(null);
    } else return;
    keep();
    show();
  });
  let typed = false; // the fields stay as they were typed: one may be empty
  for (const end of ["low", "high"])
    at(end).addEventListener("change", () => {
      const [low, high] = extent(curves, at("low").valueAsNumber, at("high").valueAsNumber);
      typed = true;
      if (low < high) curves.choose(low, high);
      typed = false;
    });
  bar.querySelector("[data-all]").addEventListener("click", () => curves.choose(null));
  document.addEventListener("range", ({ detail }) => {
    if (!typed) {
      at("low").value = detail ? Math.floor(detail[0]) : "";
      at("high").value = detail ? Math.ceil(detail[1]) : "";
    }
    bar.querySelector("[data-all]").disabled = !detail;
  });
  bindFigures(curves, hide);
  bar.addEventListener("toggle", show, true);
  document.addEventListener("values", show);
  show();
}

/** The range that was asked for; an end that was left empty is that of the rows. */
function extent(curves, low, high) {
  const places = curves.runs.flatMap((run) => run.rows.map(curves.axis.of));
  return [Number.isNaN(low) ? Math.min(...places) : low, Number.isNaN(high) ? Math.max(...places) : high];
}

function bindFigures(curves, hide) {
  const actions = {
    full: (figure) => (document.fullscreenElement ? document.exitFullscreen() : figure.requestFullscreen()),
    png: (figure, panel) => savePicture(panel.key, `${panel.title}, ${panel.unit}`, figure.querySelector("canvas"), curves.colours),
    csv: (_, panel) => saveTable(panel.key, ...curves.table(panel)),
    hide: (_, panel) => hide(panel.key, true),
  };
  for (const panel of curves.panels) {
    const figure = curves.figure(panel);
    const menu = figure.querySelector("details");
    menu.hidden = false;
    menu.addEventListener("click", (event) => {
      const action = actions[event.target.closest("button")?.dataset.do];
      if (!action) return;
      menu.open = false;
      action(figure, panel);
    });
    const canvas = figure.querySelector("canvas");
    canvas.addEventListener("dblclick", () => curves.choose(null));
    canvas.addEventListener("keydown", (event) => walk(event, curves));
    canvas.addEventListener("blur", () => curves.point(null));
  }
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll(".chart details[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
}

/** Arrows move the cursor from row to row; + and - show less and more around it; 0 shows all. */
function walk(event, curves) {
  const { key } = event;
  const places = [...new Set(curves.runs.flatMap((run) => run.rows.map(curves.axis.of)))].sort((a, b) => a - b);
  const [low, high] = curves.range ?? [places[0], places.at(-1)];
  const shown = places.filter((x) => x >= low && x <= high);
  const at = curves.cursor === null ? shown.length : shown.findIndex((x) => x >= curves.cursor);
  if (key === "ArrowLeft") curves.point(shown[Math.max(at - 1, 0)]);
  else if (key === "ArrowRight") curves.point(shown[Math.min(at + 1, shown.length - 1)]);
  else if (key === "+" || key === "-") {
    const centre = curves.cursor ?? (low + high) / 2;
    const half = ((high - low) / 2) * (key === "+" ? 0.5 : 2);
    curves.choose(Math.max(centre - half, places[0]), Math.min(centre + half, places.at(-1)));
  } else if (key === "0") curves.choose(null);
  else return;
  event.preventDefault();
}
