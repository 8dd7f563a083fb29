// The list of jobs while it changes, and the jobs that are ticked in it.
import { follow, replaceInside } from "./stream.js";

const list = document.getElementById("jobs");
const body = list.querySelector("tbody");
const chosen = document.getElementById("chosen");
const all = document.getElementById("tick-all");
const ticked = new Set();
const boxes = () => [...body.querySelectorAll('input[name="job"]')];

function count() {
  for (const box of boxes()) box.checked ? ticked.add(box.value) : ticked.delete(box.value);
  document.getElementById("count").textContent = ticked.size ? `${ticked.size} chosen` : "";
  for (const button of chosen.querySelectorAll("button")) button.disabled = !ticked.size;
  all.checked = ticked.size > 0 && boxes().every((box) => box.checked);
}

/** Rows that came anew are ticked as they were. */
function again() {
  for (const box of boxes()) box.checked = ticked.has(box.value);
  for (const id of ticked) if (!document.getElementById(`row-${id}`)) ticked.delete(id);
  count();
}

all.hidden = false;
all.addEventListener("change", () => {
  for (const box of boxes()) box.checked = all.checked;
  count();
});
body.addEventListener("change", count);
count();

// what only commands need is no part of the address that a comparison gets
chosen.addEventListener("click", ({ target }) => {
  for (const field of chosen.querySelectorAll("[data-posted]")) field.disabled = target.formMethod === "get";
});
for (const field of chosen.querySelectorAll("[data-posted]")) field.disabled = false;

follow(list.dataset.live, {
  row({ id, html }) {
    const row = document.getElementById(id);
    const fresh = document.createElement("tbody");
    fresh.innerHTML = html;
    if (row) replaceInside(row, fresh.firstElementChild.innerHTML);
    again();
  },
  rows(html) {
    body.innerHTML = html;
    list.hidden = chosen.hidden = false;
    for (const empty of document.querySelectorAll(".empty")) empty.hidden = true;
    again();
  },
  total(number) {
    const place = document.getElementById("total");
    const first = Number(place.dataset.offset);
    const last = Math.min(first + Math.max(body.rows.length, 1), number);
    place.textContent = `${first + 1}–${last} of ${number} ${number === 1 ? "job" : "jobs"}`;
  },
});
