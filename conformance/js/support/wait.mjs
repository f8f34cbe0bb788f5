// Waiting for conditions, always with a deadline and a sentence that says what did not come.

export const WAIT_MS = 10_000;

/** The first value of `look` that is true. */
export async function until(what, look, ms = WAIT_MS) {
  const end = performance.now() + ms;
  for (;;) {
    const value = await look();
    if (value) return value;
    if (performance.now() > end) throw new Error(`did not happen within ${ms} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

/** The next event of this name that `accept` takes. Ask for it before the cause. */
export function next(emitter, event, accept = () => true, ms = WAIT_MS) {
  return new Promise((done, fail) => {
    const timer = setTimeout(() => {
      emitter.off(event, take);
      fail(new Error(`no event "${event}" within ${ms} ms`));
    }, ms);
    const take = (value) => {
      if (!accept(value)) return;
      clearTimeout(timer);
      emitter.off(event, take);
      done(value);
    };
    emitter.on(event, take);
  });
}

/** Causes something that ends in the event `good`, or in `bad`, whose code is then thrown. */
export function outcome(emitter, good, bad, cause, ms = WAIT_MS) {
  return new Promise((done, fail) => {
    const end = () => {
      clearTimeout(timer);
      emitter.off(good, well);
      emitter.off(bad, badly);
    };
    const well = (context) => {
      end();
      done(context);
    };
    const badly = ({ code, reason }) => {
      end();
      fail(Object.assign(new Error(`${bad}: ${reason} (${code})`), { code }));
    };
    const timer = setTimeout(() => {
      end();
      fail(new Error(`neither "${good}" nor "${bad}" within ${ms} ms`));
    }, ms);
    emitter.on(good, well);
    emitter.on(bad, badly);
    cause();
  });
}

/** The code with which a promise is refused; a promise that is not refused fails. */
export async function refusal(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error.code;
  }
  throw new Error(`was not refused, but answered ${JSON.stringify(value)}`);
}
