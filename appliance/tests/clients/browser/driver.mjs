// A headless Chromium that does what a test says: one JSON object a line in, one a line out.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(`${process.env.SALLYPORT_BROWSER_MODULES}/`);
const { chromium } = require("playwright-core");

const PATIENCE_MS = 20_000;

const browser = await chromium.launch({
  executablePath: process.env.SALLYPORT_CHROMIUM ?? "/usr/bin/chromium",
  // Tests run as root, where Chromium has no sandbox.
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});
const pages = new Map();

const operations = {
  // A browser of its own, with its own cookies.
  async open({ page: name, width = 1280, height = 900, script = true, dark = false }) {
    const context = await browser.newContext({
      viewport: { width, height },
      javaScriptEnabled: script,
      colorScheme: dark ? "dark" : "light",
      ignoreHTTPSErrors: true,
    });
    context.setDefaultTimeout(PATIENCE_MS);
    const page = await context.newPage();
    page.complaints = [];
    page.on("dialog", (dialog) => {
      page.complaints.push(`dialog: ${dialog.message()}`);
      return dialog.dismiss();
    });
    page.on("pageerror", (error) => page.complaints.push(`error: ${error.message}`));
    page.on("console", (message) => {
      if (message.text().includes("Content Security Policy")) page.complaints.push(message.text());
    });
    pages.set(name, page);
  },
  async goto({ page, url }) {
    const answer = await pages.get(page).goto(url);
    return answer.status();
  },
  async click({ page, selector }) {
    await pages.get(page).click(selector);
  },
  async fill({ page, selector, text }) {
    await pages.get(page).fill(selector, text);
  },
  async press({ page, key }) {
    await pages.get(page).keyboard.press(key);
  },
  // Waits until something that fits is to be seen; its text.
  async text({ page, selector }) {
    const found = pages.get(page).locator(selector).first();
    await found.waitFor({ state: "visible" });
    return found.innerText();
  },
  async gone({ page, selector }) {
    await pages.get(page).locator(selector).first().waitFor({ state: "detached" });
  },
  async count({ page, selector }) {
    return pages.get(page).locator(selector).count();
  },
  async at({ page, path }) {
    await pages.get(page).waitForURL((url) => url.pathname === path);
    return pages.get(page).url();
  },
  async evaluate({ page, script }) {
    return pages.get(page).evaluate(script);
  },
  async cookies({ page }) {
    return pages.get(page).context().cookies();
  },
  async screenshot({ page, path, whole = true }) {
    await pages.get(page).screenshot({ path, fullPage: whole });
  },
  async complaints({ page }) {
    return pages.get(page).complaints;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { operation, ...rest } = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await operations[operation](rest)) ?? null };
  } catch (error) {
    const page = pages.get(rest.page);
    const shown = page ? await page.content().catch(() => "") : "";
    answer = { error: `${operation}: ${error.message}\n${page?.url()}\n${shown}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
