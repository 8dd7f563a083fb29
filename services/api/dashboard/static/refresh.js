// Asks for the page again every few seconds while somebody can see it, and shows its newest figures.
const fresh = document.getElementById("fresh");

setInterval(async () => {
  if (document.hidden || fresh.contains(document.activeElement)) return;
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  fresh.innerHTML = page.getElementById("fresh").innerHTML;
}, 1000 * Number(fresh.dataset.every));
