// Draws panels with Chart.js: one small chart each, in the page's own colours.
import { bandSets, heldOutSets, lineSet } from "./datasets.js";

const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

function resolved(name) {
  const probe = document.createElement("i"); // light-dark() is resolved only where it is used
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

function readColours() {
  return {
    series: [0, 1, 2, 3, 4, 5].map((n) => resolved(`--series-${n}`)),
    shades: [0, 1, 2, 3, 4].map((n) => resolved(`--shade-${n}`)),
    ink: resolved("--ink"),
    soft: resolved("--soft"),
    line: resolved("--line"),
    surface: resolved("--surface"),
  };
}

export const text = (panel, value) => {
  if (value === undefined || value === null) return "–";
  if (panel.share) return `${short.format(100 * value)} %`;
  return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(1) : short.format(value);
};

export class Curves {
  constructor(root, panels, runs) {
    this.root = root;
    this.panels = panels;
    this.runs = runs;
    this.charts = new Map();
    this.watcher = new IntersectionObserver((seen) => this.draw(seen), { rootMargin: "200px" });
    this.rebuild();
    document.addEventListener("theme", () => this.rebuild());
  }

  rebuild() {
    this.colours = readColours();
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    Chart.defaults.font.size = 11;
    Chart.defaults.color = this.colours.soft;
    for (const chart of this.charts.values()) chart.destroy();
    this.charts.clear();
    for (const panel of this.panels) {
      const figure = this.figure(panel);
      this.describe(panel, figure);
      this.watcher.unobserve(figure);
      this.watcher.observe(figure);
    }
  }

  /** A chart is made when its figure comes near the window: a page of fifteen opens as fast as one of three. */
  draw(seen) {
    for (const { isIntersecting, target } of seen) {
      const panel = this.panels.find((one) => one.key === target.dataset.panel);
      if (!isIntersecting || this.charts.has(panel.key)) continue;
      this.charts.set(panel.key, new Chart(target.querySelector("canvas"), this.configuration(panel)));
    }
  }

  figure(panel) {
    return this.root.querySelector(`[data-panel="${panel.key}"]`);
  }

  /** Later batches of the one run on the page; a batch that comes again replaces itself. */
  add(rows) {
    const known = new Map(this.runs[0].rows.map((row) => [row.batch, row]));
    for (const row of rows) known.set(row.batch, row);
    this.runs[0].rows = [...known.values()].sort((a, b) => a.batch - b.batch);
    this.refresh();
  }

  addHeldOut(found) {
    this.runs[0].held_out.push(...found);
    this.refresh();
  }

  refresh() {
    for (const panel of this.panels) {
      this.describe(panel, this.figure(panel));
      const chart = this.charts.get(panel.key);
      if (!chart) continue;
      this.datasets(panel).forEach((set, n) => {
        if (chart.data.datasets[n]) chart.data.datasets[n].data = set.data;
        else chart.data.datasets.push(set);
      });
      chart.update("none");
    }
  }

  hasValues(panel) {
    const held = panel.key === "success" && this.runs.some((run) => run.held_out.length);
    return held || this.runs.some((run) => run.rows.some((row) => row[panel.series[0][0]] !== undefined));
  }

  datasets(panel) {
    if (this.runs.length > 1) {
      const [metric] = panel.series[0];
      return this.runs.map((run, n) => lineSet(run.rows, metric, run.name, this.colours.series[n], n));
    }
    const [run] = this.runs;
    const stacked = panel.kind === "stack";
    const palette = panel.key === "sizes" ? this.colours.shades : this.colours.series;
    const lines = panel.series.map(([metric, label], n) => lineSet(run.rows, metric, label, palette[n], n, stacked));
    if (panel.kind !== "band") return lines;
    const [metric] = panel.series[0];
    return [...lines, ...bandSets(run.rows, metric, palette[0]), ...heldOutSets(run.held_out, this.colours.ink)];
  }

  configuration(panel) {
    const { line, ink, surface } = this.colours;
    const stacked = panel.kind === "stack" && this.runs.length === 1;
    const several = this.runs.length > 1 || panel.series.length > 1 || panel.kind === "band";
    return {
      type: "line",
      data: { datasets: this.datasets(panel) },
      options: {
        animation: false,
        maintainAspectRatio: false,
        parsing: false,
        normalized: true,
        interaction: { mode: "nearest", axis: "x", intersect: false },
        scales: {
          x: { type: "linear", bounds: "data", grid: { display: false }, border: { color: line }, ticks: { precision: 0, maxTicksLimit: 7, maxRotation: 0, includeBounds: false } },
          y: {
            stacked,
            beginAtZero: panel.share || stacked || ["length", "throughput", "staleness", "serving", "attempts"].includes(panel.key),
            max: panel.share && (stacked || panel.key === "success") ? 1 : undefined,
            grid: { color: line },
            border: { display: false },
            ticks: { maxTicksLimit: 5, callback: (value) => text(panel, value) },
          },
        },
        plugins: {
          legend: {
            display: several,
            position: "bottom",
            align: "start",
            labels: { usePointStyle: true, pointStyle: stacked ? "rectRounded" : "line", boxWidth: 18, boxHeight: 7, padding: 10, filter: (item) => !item.text.startsWith("_") },
          },
          tooltip: {
            backgroundColor: ink,
            titleColor: surface,
            bodyColor: surface,
            boxPadding: 4,
            filter: (item) => !item.dataset.label.startsWith("_"),
            callbacks: {
              title: (items) => (items.length ? `batch ${short.format(items[0].parsed.x)}` : ""),
              label: (item) => `${item.dataset.label} ${text(panel, item.raw.y)}${item.raw.error ? ` ± ${text(panel, item.raw.error)}` : ""}`,
            },
          },
        },
      },
    };
  }

  describe(panel, figure) {
    figure.hidden = !this.hasValues(panel);
    const [metric] = panel.series[0];
    const of = (run) => run.rows.filter((row) => row[metric] !== undefined);
    const latest = this.runs.map((run) => [run.name, of(run).at(-1)]).filter(([, row]) => row);
    const words = latest.map(([name, row]) => `${this.runs.length > 1 ? `${name} ` : ""}${text(panel, row[metric])} at batch ${row.batch}`);
    figure.querySelector("output").textContent = latest.length === 1 && panel.kind !== "stack" ? text(panel, latest[0][1][metric]) : "";
    figure.querySelector("canvas").setAttribute("aria-label", `${panel.title}, ${panel.unit}: ${words.join("; ") || "no batch yet"}`);
  }
}
