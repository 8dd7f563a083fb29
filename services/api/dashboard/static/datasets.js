// Rows of metrics as what Chart.js draws. A label that starts with "_" is shown in no legend.
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3], [10, 4], [4, 2]];

const points = (rows, metric) => rows.filter((row) => row[metric] !== undefined).map((row) => ({ x: row.batch, y: row[metric] }));

export function translucent(rgb, alpha) {
  return rgb.replace("rgb(", "rgba(").replace(")", `, ${alpha})`);
}

export function lineSet(rows, metric, label, colour, order, filled = false) {
  const data = points(rows, metric);
  return {
    label,
    data,
    borderColor: colour,
    backgroundColor: translucent(colour, 0.75),
    borderWidth: filled ? 0.5 : 1.8,
    borderDash: filled ? [] : DASHES[order],
    pointRadius: data.length === 1 ? 3 : 0,
    pointHoverRadius: 4,
    fill: filled ? (order === 0 ? "origin" : "-1") : false,
    tension: 0,
    order: 1,
  };
}

export function bandSets(rows, metric, colour) {
  const edge = { borderWidth: 0, pointRadius: 0, pointHoverRadius: 0, order: 3 };
  return [
    { ...edge, label: "_low", data: points(rows, `${metric}_low`), fill: false },
    { ...edge, label: "_high", data: points(rows, `${metric}_high`), fill: "-1", backgroundColor: translucent(colour, 0.18) },
  ];
}

export function heldOutSets(found, colour) {
  const at = (one, sign) => ({ x: one.batch, y: one.success + sign * one.error });
  const whiskers = found.flatMap((one) => [at(one, -1), at(one, 1), { x: one.batch, y: NaN }]);
  return [
    { label: "_whiskers", data: whiskers, borderColor: colour, borderWidth: 1.4, pointRadius: 0, pointHoverRadius: 0, spanGaps: false, order: 0 },
    {
      label: "held out",
      data: found.map((one) => ({ x: one.batch, y: one.success, error: one.error })),
      showLine: false,
      borderColor: colour,
      backgroundColor: colour,
      pointRadius: 3,
      pointHoverRadius: 5,
      order: 0,
    },
  ];
}
