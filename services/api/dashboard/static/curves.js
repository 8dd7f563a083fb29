// Draws panels with Chart.js: one small chart each, in the page's own colours, over one x axis.
import { AXES, merged, placeOfVersion } from "./axes.js";
import { cursorPlugin, nearest } from "./cursor.js";
import { bandSets, ghostSet, heldOutSets, lineSet, points, smoothed } from "./datasets.js";
import { colours, configuration, text } from "./chart_style.js";

export class Curves {
  /** `settings`: {axis, smoothing, logarithmic, calm, hidden: Set}; `more(low, high)` gives all runs' rows of a range. */
  constructor(root, { panels, runs }, settings, more) {
    Object.assign(this, { root, panels, runs, settings, more });
    this.charts = new Map();
    this.range = null; // [low, high] on the x axis; null: all
    this.cursor = null;
    this.plugin = cursorPlugin(this);
    this.watcher = new IntersectionObserver((seen) => this.draw(seen), { rootMargin: "200px" });
    this.rebuild();
    document.addEventListener("theme", () => this.rebuild());
  }

  get axis() {
    return AXES[this.settings.axis];
  }

  get several() {
    return this.runs.length > 1;
  }

  rebuild() {
    this.colours = colours();
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
      this.charts.set(panel.key, new Chart(target.querySelector("canvas"), configuration(this, panel)));
    }
  }

  figure(panel) {
    return this.root.querySelector(`[data-panel="${panel.key}"]`);
  }

  /** Later batches of the one run on the page. */
  add(rows) {
    this.runs[0].rows = merged(this.runs[0], rows);
    this.runs[0].batches = Math.max(this.runs[0].batches, this.runs[0].rows.at(-1).batch + 1);
    this.refresh();
    document.dispatchEvent(new Event("values"));
  }

  addHeldOut(found) {
    this.runs[0].held_out.push(...found);
    this.refresh();
    document.dispatchEvent(new Event("values"));
  }

  refresh() {
    for (const panel of this.panels) {
      this.describe(panel, this.figure(panel));
      const chart = this.charts.get(panel.key);
      if (!chart) continue;
      const fresh = configuration(this, panel);
      chart.data.datasets = fresh.data.datasets;
      chart.options = fresh.options;
      chart.update("none");
    }
  }

  /** Show a part of the x axis, or all of it; where rows were left out, those of the part are fetched. */
  async choose(low, high) {
    this.range = low === undefined || low === null ? null : [low, high];
    this.refresh();
    document.dispatchEvent(new CustomEvent("range", { detail: this.range }));
    if (!this.range || !this.runs.some((run) => run.rows.length < run.batches)) return;
    const inside = this.runs.flatMap((run) => run.rows.filter((row) => this.axis.of(row) >= low && this.axis.of(row) <= high));
    const batches = inside.map((row) => row.batch);
    const [first, last] = inside.length ? [Math.min(...batches), Math.max(...batches)] : [Math.floor(low), Math.ceil(high)];
    const stride = Math.ceil(Math.max(...this.runs.map((run) => run.batches / run.rows.length)));
    const found = await this.more(Math.max(first - stride, 0), last + stride);
    found.forEach((rows, n) => (this.runs[n].rows = merged(this.runs[n], rows)));
    this.refresh();
  }

  /** Put the cursor of all charts at `x`; the one under the pointer has its own tooltip. */
  point(x, under) {
    this.cursor = x;
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      for (const chart of this.charts.values()) {
        if (chart !== under) {
          const found = x === null ? [] : nearest(chart, x);
          chart.tooltip.setActiveElements(found, { x: 0, y: 0 });
        }
        chart.draw();
      }
    });
  }

  hasValues(panel) {
    const held = panel.series[0][0] === "success" && this.runs.some((run) => run.held_out.length);
    return held || this.runs.some((run) => run.rows.some((row) => panel.series.some(([metric]) => row[metric] !== undefined)));
  }

  datasets(panel) {
    const sizes = panel.key === "sizes" ? this.colours.shades : this.colours.series;
    return this.runs.flatMap((run, r) =>
      panel.series.flatMap(([metric, label], s) => {
        const order = this.several ? r : s;
        const colour = sizes[order % sizes.length];
        return this.lines(panel, run, metric, this.several ? run.name : label, colour, order);
      }),
    );
  }

  lines(panel, run, metric, label, colour, order) {
    const stacked = panel.kind === "stack";
    const raw = points(run.rows, metric, this.axis);
    const found = [lineSet(smoothed(raw, this.settings.smoothing), label, colour, order, stacked)];
    if (this.settings.smoothing && !stacked) found.push(ghostSet(raw, colour));
    if (!stacked && run.rows.some((row) => row[`${metric}_low`] !== undefined)) {
      const [low, high] = ["low", "high"].map((end) => points(run.rows, `${metric}_${end}`, this.axis));
      found.push(...bandSets(smoothed(low, this.settings.smoothing), smoothed(high, this.settings.smoothing), colour));
    }
    if (metric === "success" && run.held_out.length) {
      const place = (version) => placeOfVersion(run.rows, version, this.axis);
      const [name, ink] = this.several ? [`_${label}: held out`, colour] : ["held out", this.colours.ink];
      found.push(...heldOutSets(run.held_out, name, ink, place));
    }
    return found;
  }

  /** Columns and rows of what a panel shows. */
  table(panel) {
    const columns = ["run", "batch", "env_steps", "tokens", "elapsed_s", ...panel.series.map(([metric]) => metric)];
    const shown = (row) => !this.range || (this.axis.of(row) >= this.range[0] && this.axis.of(row) <= this.range[1]);
    const line = (run, row) => [run.name, row.batch, row.env_steps_so_far, row.tokens_so_far, row.elapsed_s, ...panel.series.map(([metric]) => row[metric])];
    return [columns, this.runs.flatMap((run) => run.rows.filter(shown).map((row) => line(run, row)))];
  }

  describe(panel, figure) {
    figure.hidden = this.settings.hidden.has(panel.key) || !this.hasValues(panel);
    const [metric] = panel.series[0];
    const latest = this.runs.map((run) => [run.name, run.rows.findLast((row) => row[metric] !== undefined)]).filter(([, row]) => row);
    const words = latest.map(([name, row]) => `${this.several ? `${name} ` : ""}${text(panel, row[metric])} at batch ${row.batch}`);
    figure.querySelector("output").textContent = latest.length === 1 && panel.kind !== "stack" ? text(panel, latest[0][1][metric]) : "";
    figure.querySelector("canvas").setAttribute("aria-label", `${panel.title}, ${panel.unit}: ${words.join("; ") || "no batch yet"}`);
  }
}
