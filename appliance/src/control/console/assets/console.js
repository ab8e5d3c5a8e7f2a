// What the console does beyond forms and links: it keeps lists fresh and counts down.
// Everything works without it; a page then reloads itself, or is reloaded.
"use strict";

(() => {
  const RETRY_MS = 5000;

  // Countdowns: <time data-until="seconds since 1970">, as the server wrote it until the first tick.
  const skew = Number(document.body.dataset.now) - Date.now() / 1000;
  const tick = () => {
    for (const time of document.querySelectorAll("time[data-until]")) {
      const left = Math.max(0, Math.round(Number(time.dataset.until) - Date.now() / 1000 - skew));
      const minutes = Math.floor(left / 60);
      const seconds = String(left % 60).padStart(2, "0");
      time.textContent = left === 0 ? "expired" : minutes > 0 ? `${minutes} min ${seconds} s` : `${left} s`;
      time.classList.toggle("urgent", left < 60);
    }
  };
  tick();
  setInterval(tick, 1000);

  // Somebody is typing or has opened something here: it stays as it is.
  const isInUse = (node) =>
    node.contains(document.activeElement) ||
    [...node.querySelectorAll("textarea, input[type=text]")].some((field) => field.value !== field.defaultValue) ||
    [...node.querySelectorAll("details.act")].some((details) => details.open);

  // Brings the children of a list, which have ids, to those of a newer version of it.
  const bring = (list, newer) => {
    const wanted = new Map([...newer.children].map((child) => [child.id, child]));
    for (const child of [...list.children]) {
      if (!wanted.has(child.id)) child.remove();
    }
    let place = list.firstElementChild;
    for (const [id, child] of wanted) {
      const present = id === "" ? null : list.querySelector(`:scope > [id="${CSS.escape(id)}"]`);
      if (present === null) {
        const added = document.importNode(child, true);
        list.insertBefore(added, place);
        continue;
      }
      if (present !== place) list.insertBefore(present, place);
      let kept = present;
      if (present.dataset.version !== child.dataset.version && !isInUse(present)) {
        kept = document.importNode(child, true);
        present.replaceWith(kept);
      }
      place = kept.nextElementSibling;
    }
  };

  const lists = () => document.querySelectorAll("[data-live]");
  if (lists().length === 0) return;

  let isFetching = false;
  let isStale = false;
  const refresh = async () => {
    isStale = true;
    if (isFetching) return;
    isFetching = true;
    while (isStale) {
      isStale = false;
      try {
        const answer = await fetch(location.href, { headers: { "sallyport-refresh": "1" }, redirect: "manual" });
        if (!answer.ok) {
          // Signed out, or the appliance stops: the page itself says so.
          location.reload();
          return;
        }
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const list of lists()) {
          const newer = page.getElementById(list.id);
          if (newer) bring(list, newer);
        }
        const count = page.getElementById("pending-count");
        const shown = document.getElementById("pending-count");
        if (count && shown) shown.replaceWith(document.importNode(count, true));
        document.title = page.title;
        tick();
      } catch {
        setTimeout(refresh, RETRY_MS);
        break;
      }
    }
    isFetching = false;
  };

  const state = document.getElementById("live-state");
  const topics = [...lists()].map((list) => list.dataset.live).join(",");
  const events = new EventSource(`/events?topics=${encodeURIComponent(topics)}`);
  events.addEventListener("changed", refresh);
  events.addEventListener("over", () => location.reload());
  events.addEventListener("open", () => {
    if (state) state.textContent = "live";
    // Something may have changed while nobody listened.
    refresh();
  });
  events.addEventListener("error", () => {
    if (state) state.textContent = "reconnecting";
  });
})();
