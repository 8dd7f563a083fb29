// The list of jobs while it changes.
import { follow, replaceInside } from "./stream.js";

const list = document.getElementById("jobs");
const body = list.querySelector("tbody");

follow(list.dataset.live, {
  row({ id, html }) {
    const row = document.getElementById(id);
    const fresh = document.createElement("tbody");
    fresh.innerHTML = html;
    if (row) replaceInside(row, fresh.firstElementChild.innerHTML);
  },
  rows(html) {
    body.innerHTML = html;
    list.hidden = false;
    for (const empty of document.querySelectorAll(".empty")) empty.hidden = true;
  },
});
