// Curves of one job while they grow, or of several over each other.
import { Curves } from "./curves.js";
import { follow, replaceInside } from "./stream.js";

const { panels, runs } = JSON.parse(document.getElementById("curves").textContent);
const curves = new Curves(document.getElementById("charts"), panels, runs);
const head = document.getElementById("head");
const warnings = document.getElementById("warnings");

if (head?.dataset.live)
  follow(head.dataset.live, {
    head: (html) => replaceInside(head, html),
    warnings: (html) => replaceInside(warnings, html),
    points(rows) {
      document.getElementById("waiting").hidden = true;
      curves.add(rows);
    },
    evaluations: (found) => curves.addHeldOut(found),
  });
