-- time zone of the report
SET SESSION TIMEZONE TO 'UTC'
-- its zone and clock
SELECT current_setting('TIMEZONE')
-- can it connect
SELECT 1
-- schemas that are worth a look
SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND pg_catalog.has_schema_privilege(current_user, nspname, 'USAGE') ORDER BY nspname
-- what may be done with which table
WITH table_privileges AS (SELECT NULL AS role, t.schemaname AS schema, t.objectname AS "table", pg_catalog.has_any_column_privilege(current_user, '"' || replace(t.schemaname, '"', '""') || '"."' || replace(t.objectname, '"', '""') || '"', 'update') AS "update", pg_catalog.has_any_column_privilege(current_user, '"' || replace(t.schemaname, '"', '""') || '"."' || replace(t.objectname, '"', '""') || '"', 'select') AS "select", pg_catalog.has_table_privilege(current_user, '"' || replace(t.schemaname, '"', '""') || '"."' || replace(t.objectname, '"', '""') || '"', 'delete') AS "delete" FROM (SELECT schemaname, tablename AS objectname FROM pg_catalog.pg_tables UNION SELECT schemaname, viewname FROM pg_catalog.pg_views UNION SELECT schemaname, matviewname FROM pg_catalog.pg_matviews) t WHERE t.schemaname !~ '^pg_' AND t.schemaname <> 'information_schema' AND pg_catalog.has_schema_privilege(current_user, t.schemaname, 'usage')) SELECT t.* FROM table_privileges t ORDER BY 2, 3
-- may a table be read
SELECT TRUE FROM "public"."orders" WHERE 1 <> 1 LIMIT 0
-- tables
SELECT n.nspname AS schema, c.relname AS name, CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'p' THEN 'PARTITIONED TABLE' WHEN 'v' THEN 'VIEW' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'm' THEN 'MATERIALIZED VIEW' END AS type, d.description, s.n_live_tup >= 0 AS has_estimate FROM pg_catalog.pg_class c INNER JOIN pg_catalog.pg_namespace n ON c.relnamespace = n.oid LEFT JOIN pg_catalog.pg_description d ON c.oid = d.objoid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass LEFT JOIN pg_stat_user_tables s ON n.nspname = s.schemaname AND c.relname = s.relname WHERE c.relnamespace = n.oid AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'f', 'm') ORDER BY type, schema, name
-- fields with keys and comments
SELECT c.column_name AS name, CASE WHEN c.udt_schema IN ('public', 'pg_catalog') THEN format('%s', c.udt_name) ELSE format('"%s"."%s"', c.udt_schema, c.udt_name) END AS database_type, c.ordinal_position - 1 AS database_position, c.table_schema, c.table_name, pk.column_name IS NOT NULL AS pk, col_description(cast(cast(format('%I.%I', c.table_schema, c.table_name) AS regclass) AS oid), c.ordinal_position) AS field_comment, (c.column_default IS NULL OR lower(c.column_default) = 'null') AND (c.is_nullable = 'NO') AND NOT (c.is_identity = 'YES') AS database_required, (c.column_default LIKE '%nextval(%') OR (c.is_identity = 'YES') AS database_is_auto_increment FROM information_schema.columns c LEFT JOIN (SELECT tc.table_schema, tc.table_name, kc.column_name FROM information_schema.table_constraints tc INNER JOIN information_schema.key_column_usage kc ON tc.constraint_name = kc.constraint_name AND tc.table_schema = kc.table_schema AND tc.table_name = kc.table_name WHERE tc.constraint_type = 'PRIMARY KEY') pk ON c.table_schema = pk.table_schema AND c.table_name = pk.table_name AND c.column_name = pk.column_name WHERE c.table_schema !~ '^information_schema|catalog_history|pg_' AND c.table_schema IN ('public') ORDER BY table_schema, table_name, database_position
-- foreign keys
SELECT fk_ns.nspname AS "fk-table-schema", fk_table.relname AS "fk-table-name", fk_column.attname AS "fk-column-name", pk_ns.nspname AS "pk-table-schema", pk_table.relname AS "pk-table-name", pk_column.attname AS "pk-column-name" FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class fk_table ON c.conrelid = fk_table.oid JOIN pg_catalog.pg_namespace fk_ns ON c.connamespace = fk_ns.oid JOIN pg_catalog.pg_attribute fk_column ON c.conrelid = fk_column.attrelid JOIN pg_catalog.pg_class pk_table ON c.confrelid = pk_table.oid JOIN pg_catalog.pg_namespace pk_ns ON pk_table.relnamespace = pk_ns.oid JOIN pg_catalog.pg_attribute pk_column ON c.confrelid = pk_column.attrelid WHERE fk_ns.nspname !~ '^information_schema|catalog_history|pg_' AND c.contype = 'f'::char AND fk_column.attnum = ANY (c.conkey) AND pk_column.attnum = ANY (c.confkey) ORDER BY 1, 2, 3
-- indexes by their columns
SELECT tmp.table_schema, tmp.table_name, trim(BOTH '"' FROM pg_catalog.pg_get_indexdef(tmp.ci_oid, tmp.pos, false)) AS field_name FROM (SELECT n.nspname AS table_schema, ct.relname AS table_name, ci.oid AS ci_oid, (information_schema._pg_expandarray(i.indkey)).n AS pos FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_namespace n ON ct.relnamespace = n.oid JOIN pg_catalog.pg_index i ON ct.oid = i.indrelid JOIN pg_catalog.pg_class ci ON ci.oid = i.indexrelid WHERE pg_catalog.pg_get_expr(i.indpred, i.indrelid) IS NULL AND n.nspname !~ '^information_schema|catalog_history|pg_') tmp WHERE tmp.pos = 1 ORDER BY 1, 2, 3
-- enums
SELECT nspname, typname, enumlabel FROM pg_catalog.pg_enum JOIN pg_catalog.pg_type ON pg_type.oid = enumtypid JOIN pg_catalog.pg_namespace ON pg_namespace.oid = typnamespace ORDER BY nspname, typname, enumsortorder
-- functions
SELECT n.nspname AS schema_name, p.proname AS function_name FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON p.pronamespace = n.oid WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2
-- fingerprint of a table
SELECT "public"."orders"."id" AS "id", "public"."orders"."customer" AS "customer", "public"."orders"."total" AS "total" FROM "public"."orders" ORDER BY 1 LIMIT 10000
-- fingerprint of a text
SELECT substring("public"."customers"."name", 1, 1234) AS "substring1" FROM "public"."customers" ORDER BY "public"."customers"."id" LIMIT 100
-- how many values
SELECT count(DISTINCT "public"."orders"."customer") AS "count", min("public"."orders"."total") AS "min", max("public"."orders"."total") AS "max", avg("public"."orders"."total") AS "avg" FROM "public"."orders"
-- values of a filter
SELECT "public"."customers"."name" AS "name" FROM "public"."customers" GROUP BY "public"."customers"."name" ORDER BY "public"."customers"."name" ASC LIMIT 1001
-- a question
SELECT date_trunc('month', now()) IS NOT NULL AS "month", "source"."customer", sum("source"."total") AS "sum" FROM (SELECT * FROM "public"."orders" WHERE "public"."orders"."total" > 100) AS "source" GROUP BY 1, 2 ORDER BY 3 DESC, 2 LIMIT 10
