import { expect, test } from "vitest";
import { duration, printable, table } from "../../src/cli/terminal.ts";

test("columns of numbers are right-aligned, null is a dash", () => {
  expect(
    table(
      ["name", "n", "note"],
      [
        ["a", 5, "x"],
        ["long", 1234, null],
        ["b", null, ""],
      ],
    ),
  ).toBe("name     n  note\na        5  x\nlong  1234  -\nb        -\n");
});

test("untrusted text cannot control the terminal", () => {
  expect(printable("a\u001b[31mred\u001b[0m\r\nb\u0007\u009b2Jc")).toBe("ared b c");
  expect(printable("left\u202eright")).toBe("left right");
});

test.for([
  [0.04, "0.0 s"],
  [59.6, "60 s"],
  [150, "3 min"],
  [7200, "2 h"],
  [259_200, "3 d"],
] as const)("%d s is %s", ([seconds, text]) => {
  expect(duration(seconds)).toBe(text);
});
