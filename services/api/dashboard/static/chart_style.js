// How a chart looks: the page's colours, axes, legend and tooltip.
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const FROM_ZERO = ["length", "throughput", "staleness", "serving", "attempts"];

function resolved(name) {
  const probe = document.createElement("i"); // light-dark() is resolved only where it is used
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/** The page's colours as they are now; sets the font of all charts too. */
export function colours() {
  const found = {
    series: [0, 1, 2, 3, 4, 5].map((n) => resolved(`--series-${n}`)),
    shades: [0, 1, 2, 3, 4].map((n) => resolved(`--shade-${n}`)),
    ink: resolved("--ink"),
    soft: resolved("--soft"),
    line: resolved("--line"),
    surface: resolved("--surface"),
  };
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  Chart.defaults.font.size = 11;
  Chart.defaults.color = found.soft;
  return found;
}

export function text(panel, value) {
  if (value === undefined || value === null) return "–";
  if (panel.share) return `${short.format(100 * value)} %`;
  return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(1) : short.format(value);
}

/** Without the hundredth part of the values at either end, where one of them would flatten all others. */
function calmRange(datasets) {
  const values = datasets.filter((set) => !set.label.startsWith("_raw")).flatMap((set) => set.data.map((point) => point.y));
  const known = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (known.length < 20) return {};
  const cut = Math.ceil(known.length / 100);
  return { min: known[cut], max: known[known.length - 1 - cut] };
}

function yAxis(curves, panel, datasets) {
  const stacked = panel.kind === "stack";
  const family = panel.key.split(".")[0];
  const whole = panel.share && (stacked || family === "success");
  const logarithmic = curves.settings.logarithmic && !stacked;
  return {
    type: logarithmic ? "logarithmic" : "linear",
    stacked,
    beginAtZero: !logarithmic && (panel.share || stacked || FROM_ZERO.includes(family)),
    ...(whole && !logarithmic ? { max: 1 } : {}),
    ...(curves.settings.calm && !stacked ? calmRange(datasets) : {}),
    grid: { color: curves.colours.line },
    border: { display: false },
    ticks: { maxTicksLimit: 5, callback: (value) => text(panel, value) },
  };
}

function xAxis(curves) {
  const [min, max] = curves.range ?? [];
  return {
    type: "linear",
    bounds: "data",
    min,
    max,
    grid: { display: false },
    border: { color: curves.colours.line },
    ticks: { ...(curves.settings.axis === "batch" ? { precision: 0 } : {}), maxTicksLimit: 6, maxRotation: 0, includeBounds: false, callback: (value) => curves.axis.tick(value) },
  };
}

function tooltip(curves, panel) {
  const { ink, surface } = curves.colours;
  const raw = (item) => (item.raw.raw === undefined ? "" : ` (measured ${text(panel, item.raw.raw)})`);
  const error = (item) => (item.raw.error ? ` ± ${text(panel, item.raw.error)}` : "");
  return {
    backgroundColor: ink,
    titleColor: surface,
    bodyColor: surface,
    boxPadding: 4,
    filter: (item) => !item.dataset.label.startsWith("_"),
    callbacks: {
      title: (items) => (items.length ? curves.axis.text(items[0].parsed.x) : ""),
      label: (item) => `${item.dataset.label} ${text(panel, item.raw.y)}${error(item)}${raw(item)}`,
    },
  };
}

export function configuration(curves, panel) {
  const datasets = curves.datasets(panel);
  const shown = datasets.filter((set) => !set.label.startsWith("_"));
  const style = panel.kind === "stack" ? "rectRounded" : "line";
  return {
    type: "line",
    data: { datasets },
    plugins: [curves.plugin],
    options: {
      animation: false,
      maintainAspectRatio: false,
      parsing: false,
      normalized: true,
      interaction: { mode: "nearest", axis: "x", intersect: false },
      scales: { x: xAxis(curves), y: yAxis(curves, panel, datasets) },
      plugins: {
        cursor: { colour: curves.colours.soft },
        legend: {
          display: curves.several || shown.length > 1,
          position: "bottom",
          align: "start",
          labels: { usePointStyle: true, pointStyle: style, boxWidth: 18, boxHeight: 7, padding: 10, filter: (item) => !item.text.startsWith("_"), sort: (a, b) => a.datasetIndex - b.datasetIndex },
        },
        tooltip: tooltip(curves, panel),
      },
    },
  };
}
