// Idempotency keys: a message that is sent again under the same key is one message.

// newKey makes a key. crypto.randomUUID exists only on localhost and over https.
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
}

// The key of a message outlives a reload until the message is accepted.
const slot = (conversation) => `key:${conversation}`;

export function keyOf(conversation) {
  let key = sessionStorage.getItem(slot(conversation));
  if (!key) {
    key = newKey();
    sessionStorage.setItem(slot(conversation), key);
  }
  return key;
}

export function forgetKey(conversation) {
  sessionStorage.removeItem(slot(conversation));
}
