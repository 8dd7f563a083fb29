// Rows of metrics as what Chart.js draws. A label that starts with "_" is shown in no legend and no tooltip.
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3], [10, 4], [4, 2]];
const STILL = { borderWidth: 0, pointRadius: 0, pointHoverRadius: 0 };

export const dashes = (order) => DASHES[order % DASHES.length];

export function translucent(rgb, alpha) {
  return rgb.replace("rgb(", "rgba(").replace(")", `, ${alpha})`);
}

export function points(rows, metric, axis) {
  return rows.filter((row) => row[metric] !== undefined).map((row) => ({ x: axis.of(row), y: row[metric] }));
}

/** The exponential moving average that TensorBoard draws: `weight` of what was, not pulled to 0 at the beginning. */
export function smoothed(data, weight) {
  if (!weight) return data;
  let sum = 0;
  let known = 0;
  return data.map(({ x, y }) => {
    sum = weight * sum + (1 - weight) * y;
    known = weight * known + (1 - weight);
    return { x, y: sum / known, raw: y };
  });
}

export function lineSet(data, label, colour, order, filled = false) {
  return {
    label,
    data,
    borderColor: colour,
    backgroundColor: translucent(colour, 0.75),
    borderWidth: filled ? 0.5 : 1.8,
    borderDash: filled ? [] : dashes(order),
    pointRadius: data.length === 1 ? 3 : 0,
    pointHoverRadius: 4,
    fill: filled ? (order === 0 ? "origin" : "-1") : false,
    tension: 0,
    order: 1,
  };
}

/** What was measured, behind its smoothed line. */
export function ghostSet(data, colour) {
  return { ...STILL, label: "_raw", data, borderColor: translucent(colour, 0.28), borderWidth: 1, fill: false, order: 2 };
}

export function bandSets(low, high, colour) {
  return [
    { ...STILL, order: 3, label: "_low", data: low, fill: false },
    { ...STILL, order: 3, label: "_high", data: high, fill: "-1", backgroundColor: translucent(colour, 0.18) },
  ];
}

export function heldOutSets(found, label, colour, place) {
  const at = (one, sign) => ({ x: place(one.batch), y: one.success + sign * one.error });
  const whiskers = found.flatMap((one) => [at(one, -1), at(one, 1), { x: place(one.batch), y: NaN }]);
  return [
    { ...STILL, label: "_whiskers", data: whiskers, borderColor: colour, borderWidth: 1.4, spanGaps: false, order: 0 },
    {
      label,
      data: found.map((one) => ({ ...at(one, 0), error: one.error })),
      showLine: false,
      borderColor: colour,
      backgroundColor: colour,
      pointRadius: 3,
      pointHoverRadius: 5,
      order: 0,
    },
  ];
}
