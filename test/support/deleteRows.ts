// Deleting as a tenant: by brainops.delete_rows, because tenants have no DELETE.

/** The statement with which a tenant does what `delete from table where condition` says. */
export function deleting(statement: string): string {
  const [, table, condition = "true"] = /^delete from (\S+)(?: where ([\s\S]+))?$/.exec(statement) ?? [];
  if (table === undefined) throw new Error(`expected delete from … where …, found ${statement}`);
  return `select brainops.delete_rows('${table}', array(select id from ${table} where ${condition}))`;
}
