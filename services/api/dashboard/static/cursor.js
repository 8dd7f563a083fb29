// One cursor for all charts, and a range that is chosen by dragging over one of them.
const LEAST_DRAG = 8; // pixels; less is a click

/** A plugin for Chart.js; `told` has `point(x | null, chart)` and `choose(low, high)`. */
export function cursorPlugin(told) {
  let from = null; // pixels
  let to = null;
  let dragged = null; // the chart
  return {
    id: "cursor",
    afterEvent(chart, { event, inChartArea }) {
      if (event.type === "mouseout") told.point(null, chart);
      else if (event.type === "mousemove" && inChartArea) told.point(chart.scales.x.getValueForPixel(event.x), chart);
    },
    afterInit(chart) {
      const { canvas } = chart;
      const at = (event) => Math.min(Math.max(event.offsetX, chart.chartArea.left), chart.chartArea.right);
      canvas.addEventListener("pointerdown", (event) => {
        if (event.pointerType === "touch" || event.button !== 0) return; // a finger scrolls the page
        [from, to, dragged] = [at(event), at(event), chart];
        canvas.setPointerCapture(event.pointerId);
      });
      canvas.addEventListener("pointermove", (event) => {
        if (dragged !== chart) return;
        to = at(event);
        chart.draw();
      });
      canvas.addEventListener("pointerup", () => {
        if (dragged !== chart) return;
        const ends = [from, to].sort((a, b) => a - b);
        [from, to, dragged] = [null, null, null];
        if (ends[1] - ends[0] < LEAST_DRAG) chart.draw();
        else told.choose(...ends.map((pixel) => chart.scales.x.getValueForPixel(pixel)));
      });
    },
    afterDatasetsDraw(chart, _, { colour }) {
      const { ctx, chartArea } = chart;
      const height = chartArea.bottom - chartArea.top;
      ctx.save();
      ctx.fillStyle = ctx.strokeStyle = colour;
      if (dragged === chart) {
        ctx.globalAlpha = 0.15;
        ctx.fillRect(from, chartArea.top, to - from, height);
      }
      const x = told.cursor === null ? NaN : chart.scales.x.getPixelForValue(told.cursor);
      if (x >= chartArea.left && x <= chartArea.right) {
        ctx.globalAlpha = 0.6;
        ctx.fillRect(x - 0.5, chartArea.top, 1, height);
      }
      ctx.restore();
    },
  };
}

/** The datasets' points nearest to `x`, as Chart.js names them; what no legend shows is left out. */
export function nearest(chart, x) {
  return chart.data.datasets.flatMap((set, datasetIndex) => {
    if (set.label.startsWith("_") || !set.data.length) return [];
    let index = set.data.findIndex((point) => point.x >= x);
    if (index < 0) index = set.data.length - 1;
    if (index > 0 && x - set.data[index - 1].x < set.data[index].x - x) index -= 1;
    return [{ datasetIndex, index }];
  });
}
