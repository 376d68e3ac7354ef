// The page works without this file. It counts the visit (the page itself may come from an edge's cache),
// writes times the way people say them, and keeps a form from being sent twice.

const visits = document.querySelector("[data-visits]");
if (visits) {
  fetch("/visits", { method: "POST" })
    .then((answer) => (answer.ok ? answer.json() : Promise.reject(answer.status)))
    .then((count) => { visits.textContent = count.visits.toLocaleString("en"); })
    .catch(() => {}); // the number of a moment ago stays
}

const units = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];
const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
for (const element of document.querySelectorAll("time")) {
  const seconds = (Date.now() - Date.parse(element.dateTime)) / 1000;
  const [unit, length] = units.find(([, length]) => seconds >= length) ?? [null, 1];
  element.title = element.textContent;
  element.textContent = unit ? words.format(-Math.floor(seconds / length), unit) : "just now";
}

for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", () => {
    for (const button of form.querySelectorAll("button")) button.disabled = true;
  });
}
addEventListener("pageshow", () => { // back from the browser's own cache: the buttons work again
  for (const button of document.querySelectorAll("button")) button.disabled = false;
});
