// The demo page in Chromium: two people, one room, and a line that breaks.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import { after, describe, test } from 'node:test';
import { chromium } from 'playwright-core';
import { develop } from './support/server.mjs';
import { until } from './support/wait.mjs';

const pictures = resolve(import.meta.dirname, '../artifacts');
const DESKTOP = { width: 1200, height: 780 };
const PHONE = { width: 390, height: 780 };
const WAIT_MS = 15_000;

let names = 0;

const BROWSERS = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** The machine's Chromium or Chrome: as root on Debian it is installed when it is missing. */
function findChromium() {
  const folders = (process.env.PATH ?? '').split(delimiter);
  const look = () => process.env.CHROMIUM
    ?? BROWSERS.flatMap((name) => folders.map((folder) => join(folder, name))).find(existsSync);
  if (!look() && process.getuid() === 0 && existsSync('/usr/bin/apt-get')) {
    const how = { stdio: 'inherit', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
    spawnSync('apt-get', ['update', '-q'], how);
    spawnSync('apt-get', ['install', '-qy', 'chromium', 'fonts-dejavu-core'], how);
  }
  const path = look();
  if (!path) {
    throw new Error('Chromium is missing: run `apt-get install chromium`, or set CHROMIUM');
  }
  return path;
}

// Not in a hook: the runner hides why a hook of a whole file failed.
const executablePath = findChromium();
await mkdir(pictures, { recursive: true });
const [server, browser] = await Promise.all([
  develop(),
  chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] }),
]);
after(async () => {
  await browser.close();
  await server.stop();
});

/** A room of its own for each test. */
const freshRoom = () => `test-${++names}`;

/** A person: a browser context of its own, with the page open. Any error of the page fails the test. */
async function person(t, name, room, options = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, ...options });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  page.on('request', (request) => {
    if (new URL(request.url()).host !== server.address) errors.push(`asked for ${request.url()}`);
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(errors, []);
  });
  await page.goto(`${server.url}#${room}`);
  await page.getByLabel('Your name').fill(name);
  await page.getByRole('button', { name: 'Start chatting' }).click();
  await connected(page);
  return page;
}

const connected = (page) => page.locator('#status[data-state="connected"]').waitFor();
const texts = (page) => page.locator('.message .text').allTextContents();
const people = async (page) => (await page.locator('.person-name').allTextContents()).sort();

async function say(page, text) {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
}

async function sees(page, ...expected) {
  await until(`the page shows ${expected}`, async () => {
    const shown = await texts(page);
    return shown.length >= expected.length && JSON.stringify(shown) === JSON.stringify(expected);
  }, WAIT_MS);
}

describe('the demo page', () => {
  test('two people meet, talk, and see each other type', async (t) => {
    const room = freshRoom();
    const anna = await person(t, 'Anna Lund', room);
    const ben = await person(t, 'Ben', room);
    for (const page of [anna, ben]) {
      await until('both are listed', async () =>
        JSON.stringify(await people(page)) === '["Anna Lund","Ben"]', WAIT_MS);
    }
    await say(anna, 'Morning! Is the tide in?');
    await sees(ben, 'Morning! Is the tide in?');
    await ben.getByLabel('Message', { exact: true }).pressSequentially('Alm');
    await anna.getByText('Ben is typing').waitFor();
    await say(ben, 'Almost');
    await sees(anna, 'Morning! Is the tide in?', 'Almost');
    assert.equal(await anna.locator('#typing').textContent(), '', 'a message ends the typing');
    await ben.close();
    await until('Ben has left', async () => (await people(anna)).join() === 'Anna Lund', WAIT_MS);
  });

  test('typing ends by itself', async (t) => {
    const room = freshRoom();
    const anna = await person(t, 'Anna', room);
    const ben = await person(t, 'Ben', room);
    await ben.getByLabel('Message', { exact: true }).pressSequentially('x');
    await anna.getByText('Ben is typing').waitFor();
    await until('it is over', async () => await anna.locator('#typing').textContent() === '', WAIT_MS);
  });

  test('a reload shows the history, once', async (t) => {
    const room = freshRoom();
    const anna = await person(t, 'Anna', room);
    const said = ['one', 'two', 'three'];
    for (const text of said) await say(anna, text);
    await sees(anna, ...said);
    await until('all are acknowledged', async () => await anna.locator('.pending').count() === 0);
    await anna.reload();
    await connected(anna);
    await sees(anna, ...said);
    await say(anna, 'four');
    await sees(anna, ...said, 'four');
    assert.equal(await anna.locator('.message.own').count(), 4, 'own messages stay own');
  });

  test('a cut connection: offline, back, and the three missed messages in order', async (t) => {
    const room = freshRoom();
    const anna = await person(t, 'Anna Lund', room);
    const ben = await person(t, 'Ben', room);
    await say(ben, 'Gate 4 opens at nine');
    await sees(anna, 'Gate 4 opens at nine');
    await say(anna, 'On my way');
    await sees(anna, 'Gate 4 opens at nine', 'On my way');
    await sees(ben, 'Gate 4 opens at nine', 'On my way');
    await anna.getByRole('button', { name: 'Cut my connection' }).click();
    await anna.locator('#status[data-state="offline"]').waitFor();
    assert.equal(await anna.locator('#status').textContent(), 'Offline');
    const missed = ['Make that ten', 'and gate 7', 'Bring the charts'];
    for (const text of missed) await say(ben, text);
    await sees(ben, 'Gate 4 opens at nine', 'On my way', ...missed);
    assert.equal((await texts(anna)).length, 2, 'nothing arrives over a cut line');
    await anna.screenshot({ path: join(pictures, 'demo-offline.png') });
    await anna.getByText('recovered 3 messages').waitFor();
    await connected(anna);
    await sees(anna, 'Gate 4 opens at nine', 'On my way', ...missed);
    assert.deepEqual(await anna.locator('.message.recovered .text').allTextContents(), missed);
    await say(anna, 'Got it all');
    await sees(ben, 'Gate 4 opens at nine', 'On my way', ...missed, 'Got it all');
    await until('both are listed again', async () =>
      (await people(anna)).join() === 'Anna Lund,Ben', WAIT_MS);
    await anna.screenshot({ path: join(pictures, 'demo-recovered.png') });
  });

  test('what is written while offline is sent afterwards, once', async (t) => {
    const room = freshRoom();
    const anna = await person(t, 'Anna', room);
    const ben = await person(t, 'Ben', room);
    await anna.getByRole('button', { name: 'Cut my connection' }).click();
    await anna.locator('#status[data-state="offline"]').waitFor();
    await say(anna, 'written in a tunnel');
    await say(anna, 'and more');
    assert.equal(await anna.locator('.message.pending').count(), 2);
    await say(ben, 'meanwhile');
    await sees(ben, 'meanwhile', 'written in a tunnel', 'and more');
    await sees(anna, 'meanwhile', 'written in a tunnel', 'and more');
    assert.equal(await anna.locator('.message.pending').count(), 0);
  });

  test('rooms are apart, and other rooms can be named', async (t) => {
    const room = freshRoom();
    const anna = await person(t, 'Anna', room);
    const ben = await person(t, 'Ben', room);
    await say(anna, 'in the first');
    await sees(ben, 'in the first');
    const second = freshRoom();
    await ben.getByLabel('Another room').fill(second);
    await ben.keyboard.press('Enter');
    await ben.locator('#room-name', { hasText: second }).waitFor();
    await ben.getByText('Nobody has said anything here yet.').waitFor();
    await until('Ben has left the first', async () => (await people(anna)).join() === 'Anna', WAIT_MS);
    await say(ben, 'in the second');
    await sees(ben, 'in the second');
    await sees(anna, 'in the first');
    await ben.goBack();
    await sees(ben, 'in the first');
  });

  test('texts and names are never markup', async (t) => {
    const room = freshRoom();
    const evil = '<img src=x onerror=alert(1)><script>alert(2)</script>';
    const anna = await person(t, '<b>Anna</b>', room);
    const ben = await person(t, 'Ben', room);
    await say(anna, evil);
    await sees(ben, evil);
    assert.equal(await ben.locator('.log img, .log script, .log b, .people b').count(), 0);
    await until('the name as it is', async () =>
      (await people(ben)).join() === '<b>Anna</b>,Ben', WAIT_MS);
  });

  test('works with the keyboard alone', async (t) => {
    const context = await browser.newContext({ viewport: DESKTOP });
    context.setDefaultTimeout(WAIT_MS);
    t.after(() => context.close());
    const page = await context.newPage();
    await page.goto(`${server.url}#${freshRoom()}`);
    await page.getByLabel('Your name').waitFor();
    await page.keyboard.type('Kit');
    await page.keyboard.press('Enter');
    await connected(page);
    await page.keyboard.type('no mouse');
    await page.keyboard.press('Shift+Enter');
    await page.keyboard.type('two lines');
    await page.keyboard.press('Enter');
    await sees(page, 'no mouse\ntwo lines');
    for (let n = 0; n < 30; n += 1) {
      await page.keyboard.press('Tab');
      if (await page.evaluate(() => document.activeElement.id) === 'cut') break;
    }
    await page.keyboard.press('Enter');
    await page.locator('#status[data-state="offline"]').waitFor();
    await page.getByText('nothing was missed').waitFor();
  });

  test('fits a phone', async (t) => {
    const room = freshRoom();
    const anna = await person(t, 'Anna Lund', room, { viewport: PHONE, isMobile: true, hasTouch: true, deviceScaleFactor: 2 });
    const ben = await person(t, 'Ben', room);
    await until('both are listed', async () => (await people(ben)).length === 2, WAIT_MS);
    await say(ben, 'Does this fit in a pocket?');
    await sees(anna, 'Does this fit in a pocket?');
    await say(anna, 'It does, even when a message is long enough to need more than one line of a phone.');
    await say(ben, 'https://example.com/a-very-long-address-without-any-space-in-it-that-has-to-break-somewhere');
    await until('three messages', async () => (await texts(anna)).length === 3, WAIT_MS);
    const { width, inner } = await anna.evaluate(() => ({
      width: document.documentElement.scrollWidth,
      inner: innerWidth,
    }));
    assert.ok(width <= inner, `the page is ${width} wide on a screen of ${inner}`);
    for (const control of ['.brand', '#text', '#cut', '#status', '#room-name', '.composer button']) {
      const box = await anna.locator(control).boundingBox();
      assert.ok(box && box.x >= 0 && box.x + box.width <= PHONE.width, `${control} is cut off`);
      assert.ok(box.y >= 0 && box.y + box.height <= PHONE.height, `${control} is below the screen`);
    }
    await anna.screenshot({ path: join(pictures, 'demo-phone.png') });
  });

  test('light and dark', async (t) => {
    const room = freshRoom();
    const anna = await person(t, 'Anna Lund', room);
    const ben = await person(t, 'Ben', room, { colorScheme: 'dark' });
    const cara = await person(t, 'Cara Mo', room);
    await say(anna, 'Good morning. Who has the charts?');
    await sees(ben, 'Good morning. Who has the charts?');
    await say(ben, 'I do.');
    await say(ben, 'The load line is clear by half a metre, so we can take the crates from quay 2 as well.');
    await until('three messages', async () => (await texts(cara)).length === 3, WAIT_MS);
    await say(cara, 'Then we sail at four. Tell the pilot, please.');
    await until('four messages', async () => (await texts(ben)).length === 4 && (await people(ben)).length === 3, WAIT_MS);
    await cara.getByLabel('Message', { exact: true }).pressSequentially('And');
    for (const page of [anna, ben]) await page.getByText('Cara Mo is typing').waitFor();
    const background = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.notEqual(await background(anna), await background(ben));
    await anna.screenshot({ path: join(pictures, 'demo-desktop.png') });
    await ben.screenshot({ path: join(pictures, 'demo-desktop-dark.png') });
  });

  test('the first thing one sees', async (t) => {
    const context = await browser.newContext({ viewport: DESKTOP });
    t.after(() => context.close());
    const page = await context.newPage();
    await page.goto(server.url);
    const name = await page.getByLabel('Your name').inputValue();
    assert.match(name, /^\w+ \w+$/);
    assert.deepEqual(await page.locator('.choice span').allTextContents(), ['#general', '#random', '#help']);
    await page.screenshot({ path: join(pictures, 'demo-welcome.png') });
  });
});
