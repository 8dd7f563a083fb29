// Curves of one job while they grow, or of several over each other.
import { bindTools, keptSettings } from "./chart_tools.js";
import { Curves } from "./curves.js";
import { follow, replaceInside } from "./stream.js";

const figures = JSON.parse(document.getElementById("curves").textContent);

async function rowsOf(low, high) {
  const address = new URL(figures.more, location.href);
  address.searchParams.set("low", low);
  address.searchParams.set("high", high);
  const answer = await fetch(address).catch(() => null);
  return answer?.ok ? (await answer.json()).runs : []; // the rows that are there stay
}

const curves = new Curves(document.getElementById("charts"), figures, keptSettings(), rowsOf);
bindTools(document.getElementById("chart-tools"), curves);
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
