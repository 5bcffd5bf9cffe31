// How long the event loop of this process is blocked.

export interface EventLoopWatch {
  /** The longest block since the start, in ms. */
  longestMs(): number;
}

export function watchEventLoop(): EventLoopWatch {
  const everyMs = 10;
  let last = performance.now();
  let longest = 0;
  const look = (): void => {
    const at = performance.now();
    longest = Math.max(longest, at - last - everyMs);
    last = at;
  };
  setInterval(look, everyMs).unref();
  return {
    longestMs: () => {
      look();
      return longest;
    },
  };
}
