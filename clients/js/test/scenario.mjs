// What the client must bear against a real node, in Node.js and in a browser: the node ends in the middle.

// play publishes count messages, a few under way at once, and follows the channel meanwhile. half() is called once half of them are
// acknowledged. It resolves to what was seen and what is stored.
export async function play(Barrage, url, channel, count, half, options = {}) {
  const follower = new Barrage(url, channel, { since: 0, name: 'follower', ...options });
  const publisher = new Barrage(url, channel, { name: 'publisher', echo: false, ...options });
  const seen = [];
  const trouble = [];
  let complete;
  const all = new Promise((done) => (complete = done));
  for (const client of [follower, publisher]) {
    client.on('reset', (reset) => trouble.push(reset.reason));
    client.on('error', (error) => trouble.push(error.message));
  }
  let welcomes = 0;
  follower.on('welcome', () => welcomes++);
  follower.on('message', ({ offset, data }) => {
    seen.push([offset, data]);
    if (seen.length >= count) complete();
  });
  follower.connect();
  publisher.connect();
  const stored = [];
  let next = 0;
  const work = async () => {
    while (next < count) {
      const data = next++;
      stored.push([await publisher.publish(data), data]);
      if (stored.length === count / 2) half();
    }
  };
  await Promise.all([work(), work(), work(), work()]);
  await all;
  const { members } = await follower.info();
  const past = [];
  for await (const page of follower.pages({ since: 0, limit: 30 })) past.push(...page.messages.map((m) => [m.offset, m.data]));
  follower.close();
  publisher.close();
  stored.sort(([a], [b]) => a - b);
  return { seen, stored, past, trouble, welcomes, members };
}
