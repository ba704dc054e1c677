// While the page has a part marked data-live, ask for the page again and show that part anew.
"use strict";

const PAUSE = 700;

async function follow() {
  const shown = document.getElementById("live");
  if (!shown || !("live" in shown.dataset)) return;
  try {
    if (!document.hidden) {
      const answer = await fetch(location.href, { cache: "no-store" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("live");
      if (answer.ok && fresh && fresh.outerHTML !== shown.outerHTML) {
        shown.replaceWith(document.adoptNode(fresh));
        document.title = page.title;
      }
    }
  } catch (error) {
    console.info("the server does not answer now, asking again", error);
  }
  setTimeout(follow, PAUSE);
}

follow();
