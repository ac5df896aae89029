// Requests of the page that change something.
import { signedOut } from "./signedout.js";

// How often a message is sent again, and the pauses between: some fifteen seconds together.
const pauses = [300, 700, 1500, 2500, 4000, 6000];
// timeout bounds one try: a lost reply may never be noticed otherwise.
const timeout = 20000;

// ask posts a form. Its error has the server's message, and resend if the request may not have been
// done, so that it can be sent again where doing it twice is doing it once.
export async function ask(url, data, { headers = {}, signal } = {}) {
  let response;
  try {
    response = await fetch(url, { method: "POST", body: new URLSearchParams(data), headers: { Accept: "application/json", ...headers }, signal });
    if (response.ok) return { response, reply: response.status === 204 ? null : await response.json() };
  } catch {
    throw Object.assign(new Error("The server cannot be reached. Check the connection and try again."), { status: 0, resend: true });
  }
  if (response.status === 401) signedOut();
  // An error of the edge has a title, one of a stopping server a type, and one of the
  // page's own server an error.
  const reply = await response.json().catch(() => ({}));
  const gateway = response.status >= 502 && response.status <= 504;
  throw Object.assign(new Error(reply.error || reply.detail || `The server answered ${response.status}.`), {
    status: response.status,
    resend: reply.resend ?? (gateway && !reply.error),
  });
}

// askKeyed posts a message under its key, again and again while it may not have arrived. It calls
// waiting before each wait.
export async function askKeyed(url, data, key, waiting) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await ask(url, data, { headers: { "Idempotency-Key": key }, signal: AbortSignal.timeout(timeout) });
    } catch (error) {
      if (!error.resend || attempt === pauses.length) throw error;
      waiting();
      await new Promise((done) => setTimeout(done, pauses[attempt]));
    }
  }
}
