-- django: connection
SELECT set_config('TimeZone', 'UTC', false)
-- django: isolation
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED
-- django: applied migrations
SELECT "django_migrations"."id", "django_migrations"."app", "django_migrations"."name", "django_migrations"."applied" FROM "django_migrations"
-- django: get by key
SELECT "auth_user"."id", "auth_user"."username", "auth_user"."is_active" FROM "auth_user" WHERE "auth_user"."id" = 3 LIMIT 21
-- django: filter and order
SELECT "auth_user"."id", "auth_user"."username" FROM "auth_user" WHERE ("auth_user"."is_active" AND UPPER("auth_user"."username"::text) LIKE UPPER('user%')) ORDER BY "auth_user"."username" ASC LIMIT 5 OFFSET 2
-- django: exists
SELECT 1 AS "a" FROM "auth_user" WHERE "auth_user"."username" = 'user1' LIMIT 1
-- django: count
SELECT COUNT(*) AS "__count" FROM "auth_user" WHERE "auth_user"."date_joined" < '2027-01-01T00:00:00+00:00'::timestamptz
-- django: join
SELECT "auth_group"."id", "auth_group"."name" FROM "auth_group" INNER JOIN "auth_user_groups" ON ("auth_group"."id" = "auth_user_groups"."group_id") WHERE "auth_user_groups"."user_id" = 4
-- django: prefetch
SELECT ("auth_user_groups"."user_id") AS "_prefetch_related_val_user_id", "auth_group"."id", "auth_group"."name" FROM "auth_group" INNER JOIN "auth_user_groups" ON ("auth_group"."id" = "auth_user_groups"."group_id") WHERE "auth_user_groups"."user_id" IN (1, 2, 3) ORDER BY 1, 2
-- django: annotate
SELECT "auth_group"."id", "auth_group"."name", COUNT("auth_user_groups"."user_id") AS "members" FROM "auth_group" LEFT OUTER JOIN "auth_user_groups" ON ("auth_group"."id" = "auth_user_groups"."group_id") GROUP BY "auth_group"."id" HAVING COUNT("auth_user_groups"."user_id") > 1 ORDER BY "members" DESC, 1
-- django: subquery
SELECT "products"."id", (SELECT SUM(U0."quantity") AS "s" FROM "lines" U0 WHERE U0."product_id" = ("products"."id")) AS "sold" FROM "products" ORDER BY 1 LIMIT 10
-- django: Q objects
SELECT "products"."id" FROM "products" WHERE (NOT ("products"."price" < 10 AND "products"."price" IS NOT NULL) OR ("products"."name" = 'product 1')) ORDER BY 1
-- django: F expressions
SELECT "lines"."order_id" FROM "lines" WHERE "lines"."quantity" > ("lines"."product_id" / 5) ORDER BY 1
-- django: truncated dates
SELECT DATE_TRUNC('hour', "measurements"."at" AT TIME ZONE 'UTC') AS "hour", AVG("measurements"."value") AS "avg" FROM "measurements" GROUP BY 1 ORDER BY 1
-- django: extract
SELECT EXTRACT(DAY FROM "measurements"."at" AT TIME ZONE 'UTC') AS "day", COUNT(*) FROM "measurements" GROUP BY 1 ORDER BY 1
-- django: case
SELECT "products"."id", CASE WHEN "products"."price" >= 30 THEN 'dear' ELSE 'cheap' END AS "kind" FROM "products" ORDER BY 1
-- django: array field
SELECT "products"."id" FROM "products" WHERE "products"."tags" @> ARRAY['t1']::text[] ORDER BY 1
-- django: JSON field
SELECT "products"."id" FROM "products" WHERE ("products"."attributes" -> 'color') = '"c1"'::jsonb ORDER BY 1
-- django: union
(SELECT "auth_group"."name" FROM "auth_group") UNION (SELECT "auth_user"."username" FROM "auth_user") ORDER BY 1
-- django: window
SELECT "lines"."order_id", RANK() OVER (PARTITION BY "lines"."product_id" ORDER BY "lines"."quantity" DESC, "lines"."order_id") AS "rank" FROM "lines" ORDER BY 1, 2
-- django: begin
BEGIN
-- django: insert
INSERT INTO "django_session" ("session_key", "session_data", "expire_date") VALUES ('k1', 'd', '2026-02-01T00:00:00+00:00'::timestamptz)
-- django: save point
SAVEPOINT "s140_x1"
-- django: update
UPDATE "django_session" SET "session_data" = 'e', "expire_date" = '2026-03-01T00:00:00+00:00'::timestamptz WHERE "django_session"."session_key" = 'k1'
-- django: bulk update
UPDATE "products" SET "price" = (CASE WHEN ("products"."id" = 1) THEN 11 WHEN ("products"."id" = 2) THEN 12 ELSE NULL END)::numeric(10, 2) WHERE "products"."id" IN (1, 2)
-- django: update or create
INSERT INTO "django_session" ("session_key", "session_data", "expire_date") VALUES ('k1', 'f', '2026-02-01') ON CONFLICT("session_key") DO UPDATE SET "session_data" = EXCLUDED."session_data"
-- django: release
RELEASE SAVEPOINT "s140_x1"
-- django: select for update
SELECT "jobs"."id", "jobs"."queue" FROM "jobs" WHERE "jobs"."id" = 1 FOR UPDATE
-- django: delete
DELETE FROM "django_session" WHERE "django_session"."session_key" IN ('k1')
-- django: clear expired sessions
DELETE FROM "django_session" WHERE "django_session"."expire_date" < '2026-01-01T00:00:00+00:00'::timestamptz
-- django: rollback
ROLLBACK
-- sqlalchemy: version
select pg_catalog.version()
-- sqlalchemy: schema
select current_schema()
-- sqlalchemy: strings
show standard_conforming_strings
-- sqlalchemy: isolation
show transaction isolation level
-- sqlalchemy: get
SELECT orders.id AS orders_id, orders.customer AS orders_customer, orders.total AS orders_total FROM orders WHERE orders.id = 7
-- sqlalchemy: lazy load [values: 7]
SELECT customers.id AS customers_id, customers.name AS customers_name FROM customers WHERE customers.id = $1::INTEGER
-- sqlalchemy: joined load
SELECT orders.id, orders.total, customers_1.id AS id_1, customers_1.name FROM orders LEFT OUTER JOIN customers AS customers_1 ON customers_1.id = orders.customer WHERE orders.id < 20 ORDER BY orders.id
-- sqlalchemy: select in load
SELECT lines.order_id AS lines_order_id, lines.product_id AS lines_product_id, lines.quantity AS lines_quantity FROM lines WHERE lines.order_id IN (1, 2, 3, 4) ORDER BY 1, 2
-- sqlalchemy: anonymous subquery
SELECT anon_1.customer, anon_1.n FROM (SELECT orders.customer AS customer, count(*) AS n FROM orders GROUP BY orders.customer) AS anon_1 WHERE anon_1.n > 5 ORDER BY 1
-- sqlalchemy: recursive CTE
WITH RECURSIVE included_parts(part, depth) AS (SELECT products.id AS part, 1 AS depth FROM products WHERE products.id = 1 UNION ALL SELECT products_1.id, included_parts_1.depth + 1 FROM products AS products_1, included_parts AS included_parts_1 WHERE products_1.id = included_parts_1.part * 2) SELECT included_parts.part, included_parts.depth FROM included_parts ORDER BY 1
-- sqlalchemy: insert many values
BEGIN
-- sqlalchemy: insert returning
INSERT INTO jobs (queue, payload) SELECT p0::VARCHAR, p1::JSONB FROM (VALUES ('a', '{"x": 1}', 0), ('b', '{"x": 2}', 1)) AS imp_sen(p0, p1, sen_counter) ORDER BY sen_counter RETURNING jobs.queue, jobs.payload
-- sqlalchemy: update by version
UPDATE jobs SET locked_by='w1' WHERE jobs.id = 1 AND jobs.queue = 'q1'
-- sqlalchemy: update from
UPDATE lines SET quantity=2 FROM products WHERE products.id = lines.product_id AND products.name = 'product 3' RETURNING lines.order_id
-- sqlalchemy: delete using
DELETE FROM lines USING products WHERE lines.product_id = products.id AND products.name = 'product 4'
-- sqlalchemy: done
ROLLBACK
-- rails: client messages
SET client_min_messages TO warning
-- rails: strings
SET standard_conforming_strings = on
-- rails: interval style
SET intervalstyle = iso_8601
-- rails: max identifier
SHOW max_identifier_length
-- rails: time zone
SET SESSION timezone TO 'UTC'
-- rails: find [values: 5, 1]
SELECT "products".* FROM "products" WHERE "products"."id" = $1 LIMIT $2
-- rails: where in
SELECT "orders".* FROM "orders" WHERE "orders"."customer" IN (1, 2) ORDER BY "orders"."id" ASC
-- rails: pluck
SELECT "auth_user"."username" FROM "auth_user" WHERE "auth_user"."is_active" = TRUE ORDER BY 1
-- rails: sum
SELECT SUM("orders"."total") FROM "orders" WHERE "orders"."customer" = 3
-- rails: group count
SELECT COUNT(*) AS "count_all", "jobs"."queue" AS "jobs_queue" FROM "jobs" GROUP BY "jobs"."queue" ORDER BY 2
-- rails: eager load
SELECT "orders"."id" AS t0_r0, "customers"."name" AS t1_r1 FROM "orders" LEFT OUTER JOIN "customers" ON "customers"."id" = "orders"."customer" WHERE "customers"."name" = 'customer 5' ORDER BY 1
-- good job: dequeue
SELECT "jobs"."id" FROM "jobs" WHERE "jobs"."queue" = 'q0' AND "jobs"."locked_by" IS NULL ORDER BY "jobs"."run_at" ASC, 1 LIMIT 1 FOR UPDATE SKIP LOCKED
-- hibernate: find
select o1_0.id,o1_0.customer,o1_0.total from orders o1_0 where o1_0.id=9
-- hibernate: fetch join
select o1_0.id,c1_0.id,c1_0.name from orders o1_0 join customers c1_0 on c1_0.id=o1_0.customer where o1_0.total>1490 order by 1
-- hibernate: page [values: 10, 5]
select p1_0.id,p1_0.name from products p1_0 order by p1_0.price desc offset $1 rows fetch first $2 rows only
-- hibernate: next value
select nextval('jobs_id_seq') is not null
-- hibernate: projection
select count(distinct l1_0.product_id),max(l1_0.quantity) from lines l1_0 group by l1_0.order_id%3 order by 1,2
-- entity framework: where any
SELECT p.id, p.name FROM products AS p WHERE EXISTS (SELECT 1 FROM lines AS l WHERE l.product_id = p.id AND l.quantity > 4) ORDER BY p.id
-- entity framework: split query
SELECT o0.id, l.product_id FROM (SELECT o.id FROM orders AS o ORDER BY o.id LIMIT 3) AS o0 INNER JOIN lines AS l ON o0.id = l.order_id ORDER BY o0.id, 2
-- entity framework: any array [values: {1,2,3}]
SELECT p.name FROM products AS p WHERE p.id = ANY ($1::int[]) ORDER BY 1
-- prisma: find many [values: 10, 0]
SELECT "public"."products"."id", "public"."products"."name", "public"."products"."price" FROM "public"."products" WHERE 1=1 ORDER BY "public"."products"."id" ASC LIMIT $1 OFFSET $2
-- prisma: relation filter
SELECT "public"."orders"."id" FROM "public"."orders" WHERE ("public"."orders"."id") IN (SELECT "t0"."id" FROM "public"."orders" AS "t0" INNER JOIN "public"."lines" AS "j0" ON ("j0"."order_id") = ("t0"."id") WHERE ("j0"."quantity" > 4 AND "t0"."id" IS NOT NULL)) ORDER BY 1 OFFSET 0
-- prisma: aggregate
SELECT COUNT(*), SUM("total") FROM (SELECT "public"."orders"."id", "public"."orders"."total" FROM "public"."orders" WHERE 1=1 OFFSET 0) AS "sub"
-- prisma: tables
SELECT tbl.relname AS table_name, namespace.nspname as namespace, (tbl.relhassubclass and tbl.relkind = 'p') as is_partition, (tbl.relhassubclass and tbl.relkind = 'r') as has_subclass, tbl.relrowsecurity as has_row_level_security, reloptions, obj_description(tbl.oid, 'pg_class') as description FROM pg_class AS tbl INNER JOIN pg_namespace AS namespace ON namespace.oid = tbl.relnamespace WHERE ((tbl.relkind = 'r' AND tbl.relispartition = 't') OR (tbl.relkind = 'r' AND tbl.relispartition = 'f') OR tbl.relkind = 'p') AND namespace.nspname = ANY ('{public}') ORDER BY namespace, table_name
-- prisma: columns
SELECT oid.namespace, info.table_name, info.column_name, format_type(att.atttypid, att.atttypmod) as formatted_type, info.numeric_precision, info.numeric_scale, info.data_type, pg_get_expr(attdef.adbin, attdef.adrelid) AS column_default, info.is_nullable, info.is_identity, info.character_maximum_length FROM information_schema.columns info JOIN pg_attribute att ON att.attname = info.column_name JOIN (SELECT pg_class.oid, relname, pg_namespace.nspname as namespace FROM pg_class JOIN pg_namespace on pg_namespace.oid = pg_class.relnamespace AND pg_namespace.nspname = ANY ('{public}') WHERE reltype > 0) as oid on oid.oid = att.attrelid AND relname = info.table_name AND namespace = info.table_schema LEFT OUTER JOIN pg_attrdef attdef ON attdef.adrelid = att.attrelid AND attdef.adnum = att.attnum AND table_schema = namespace WHERE table_schema = ANY ('{public}') ORDER BY namespace, table_name, ordinal_position
-- prisma: enums
SELECT t.typname as name, e.enumlabel as value, n.nspname as namespace, obj_description(t.oid, 'pg_type') as description FROM pg_type t JOIN pg_enum e ON t.oid = e.enumtypid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = ANY ('{public}') ORDER BY e.enumsortorder
-- prisma: foreign keys
SELECT con.oid > 0 AS con_id, att2.attname as child_column, cl.relname as parent_table, att.attname as parent_column, con.confdeltype, con.confupdtype, con.conname FROM (SELECT ns.nspname, unnest(con1.conkey) AS parent, unnest(con1.confkey) AS child, con1.* FROM pg_class cl JOIN pg_constraint con1 ON con1.conrelid = cl.oid JOIN pg_namespace ns ON cl.relnamespace = ns.oid WHERE con1.contype = 'f' AND ns.nspname = ANY ('{public}')) con JOIN pg_attribute att on att.attrelid = con.confrelid and att.attnum = con.child JOIN pg_class cl on cl.oid = con.confrelid JOIN pg_attribute att2 on att2.attrelid = con.conrelid and att2.attnum = con.parent ORDER BY con.conname, 2
-- prisma: indexes
SELECT indexinfo.relname AS index_name, tableinfo.relname AS table_name, rawindex.indisunique, rawindex.indisprimary, rawindex.indkey::text, am.amname FROM pg_index rawindex JOIN pg_class AS tableinfo ON tableinfo.oid = rawindex.indrelid JOIN pg_class AS indexinfo ON indexinfo.oid = rawindex.indexrelid JOIN pg_namespace AS schemainfo ON schemainfo.oid = tableinfo.relnamespace JOIN pg_am AS am ON am.oid = indexinfo.relam WHERE rawindex.indpred IS NULL AND NOT rawindex.indisexclusion AND schemainfo.nspname = 'public' ORDER BY 1, 2
-- prisma: sequences
SELECT sequence_name, sequence_schema AS namespace, start_value, minimum_value AS min_value, maximum_value AS max_value, increment AS increment_by FROM information_schema.sequences WHERE sequence_schema = 'public' ORDER BY 1
-- prisma: extensions
SELECT ext.extname as extension_name, ext.extversion as extension_version, ext.extrelocatable, pn.nspname as extension_schema FROM pg_extension ext INNER JOIN pg_namespace pn ON ext.extnamespace = pn.oid ORDER BY ext.extname ASC
-- prisma: version
SELECT EXISTS(SELECT 1 FROM pg_namespace WHERE nspname = 'public'), version(), current_setting('server_version_num')::integer as numeric_version
-- typeorm: current database
SELECT * FROM current_database()
-- typeorm: columns
SELECT columns.*, pg_catalog.col_description(('"' || table_catalog || '"."' || table_schema || '"."' || table_name || '"')::regclass::oid, ordinal_position) AS description, ('"' || "udt_schema" || '"."' || "udt_name" || '"')::"regtype"::text AS "regtype" FROM "information_schema"."columns" WHERE ("table_schema" = 'public' AND "table_name" = 'products') ORDER BY ordinal_position
-- knex: has table
select * from information_schema.tables where table_name = 'products' and table_schema = current_schema()
-- sequelize: upsert
INSERT INTO "jobs" ("id","queue","payload") VALUES (1,'q1','{}') ON CONFLICT ("id") DO NOTHING RETURNING "id","queue"
-- gorm: first
SELECT * FROM "products" WHERE "products"."id" = 10 ORDER BY "products"."id" LIMIT 1
-- ecto: preload
SELECT l0."order_id", l0."product_id", l0."quantity", l0."order_id" FROM "lines" AS l0 WHERE (l0."order_id" = ANY('{1,2}')) ORDER BY l0."order_id", 2
-- sqlx: describe
SELECT count(*) AS "count!" FROM products WHERE price BETWEEN 5 AND 25
