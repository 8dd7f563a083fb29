// The list of groups grows while it is scrolled: the row at its end fetches the next page.
const rows = document.getElementById("rows");

async function grow(more) {
  watcher.unobserve(more);
  const answer = await fetch(more.dataset.next);
  if (!answer.ok) return; // the link in the row still works
  const fresh = document.createElement("tbody");
  fresh.innerHTML = await answer.text();
  more.replaceWith(...fresh.children);
  watch();
}

const watcher = new IntersectionObserver(
  (seen) => seen.filter((one) => one.isIntersecting).forEach((one) => grow(one.target)),
  { rootMargin: "600px" },
);

function watch() {
  const more = rows?.querySelector(".more");
  if (more) watcher.observe(more);
}

watch();
