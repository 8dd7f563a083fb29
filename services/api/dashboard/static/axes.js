// What runs along the x axis, and the totals that rows need for it.
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, notation: "compact" });

function seconds(value) {
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]])
    if (Math.abs(value) >= length) return `${short.format(value / length)} ${unit}`;
  return `${short.format(value)} s`;
}

export const AXES = {
  batch: { of: (row) => row.batch, text: (value) => `batch ${whole.format(value)}`, tick: (value) => whole.format(value), unit: "batches" },
  env_steps: { of: (row) => row.env_steps_so_far, text: (value) => `${short.format(value)} env. steps`, tick: (value) => short.format(value), unit: "env. steps" },
  tokens: { of: (row) => row.tokens_so_far, text: (value) => `${short.format(value)} tokens`, tick: (value) => short.format(value), unit: "tokens" },
  time: { of: (row) => row.elapsed_s, text: (value) => `after ${seconds(value)}`, tick: seconds, unit: "seconds" },
};

/** Rows in order of batch, later ones in place of earlier ones of the same batch; those that come while the job runs
 * get their totals from the row before. */
export function merged(run, fresh) {
  const known = new Map(run.rows.map((row) => [row.batch, row]));
  for (const row of fresh) known.set(row.batch, row);
  const rows = [...known.values()].sort((a, b) => a.batch - b.batch);
  rows.forEach((row, n) => {
    const before = rows[n - 1] ?? {};
    row.env_steps_so_far ??= (before.env_steps_so_far ?? 0) + (row.env_steps ?? 0);
    row.tokens_so_far ??= (before.tokens_so_far ?? 0) + (row.tokens ?? 0);
    row.elapsed_s ??= run.started_unix_s && row.at_unix_s ? row.at_unix_s - run.started_unix_s : before.elapsed_s ?? 0;
  });
  return rows;
}

/** Where a policy version stands on an axis: behind the batch that made it. */
export function placeOfVersion(rows, version, axis) {
  if (axis === AXES.batch) return version;
  const row = rows.findLast((one) => one.batch < version);
  return row ? axis.of(row) : 0;
}
