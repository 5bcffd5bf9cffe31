// The demo's leads: fictional people at reserved domains (RFC 2606).
import { readFile } from "node:fs/promises";
import { parse } from "csv-parse/sync";
import { z } from "zod";

const leadShape = z.object({
  company_name: z.string(),
  contact_name: z.string(),
  email: z.email(),
  phone: z.string(),
  website: z.url(),
  stage: z.string(),
  score: z.coerce.number(),
  value_estimate: z.coerce.number(),
  source: z.string(),
  time_zone: z.string(),
});

export type DemoLead = Readonly<z.infer<typeof leadShape>>;

export async function readLeads(): Promise<DemoLead[]> {
  const text = await readFile(new URL("./leads.csv", import.meta.url), "utf8");
  return z.array(leadShape).parse(parse(text, { columns: true, bom: true }));
}
