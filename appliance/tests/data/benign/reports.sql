-- metabase: ping
SELECT 1
-- metabase: summarise by month
SELECT DATE_TRUNC('month', "source"."at") AS "at", COUNT(*) AS "count" FROM (SELECT "public"."measurements"."at" AS "at" FROM "public"."measurements" WHERE "public"."measurements"."value" > 3) AS "source" GROUP BY DATE_TRUNC('month', "source"."at") ORDER BY 1 ASC
-- metabase: bins
SELECT FLOOR((("public"."orders"."total" - 0.0) / 250.0)) * 250.0 + 0.0 AS "total", COUNT(*) AS "count" FROM "public"."orders" GROUP BY 1 ORDER BY 1 ASC
-- metabase: field values
SELECT "public"."products"."name" AS "name" FROM "public"."products" GROUP BY "public"."products"."name" ORDER BY "public"."products"."name" ASC LIMIT 1001
-- metabase: fingerprint
SELECT SUBSTRING("public"."products"."name" FROM 1 FOR 1234) AS "substring1", "public"."products"."id" FROM "public"."products" ORDER BY 2 LIMIT 10000
-- superset: virtual data set
SELECT customer AS customer, AVG(total) AS "AVG(total)" FROM (SELECT * FROM orders WHERE total > 10) AS virtual_table GROUP BY customer ORDER BY "AVG(total)" DESC, 1 LIMIT 100
-- superset: explain
EXPLAIN SELECT customer, total FROM orders WHERE id = 1
-- superset: time series
SELECT DATE_TRUNC('day', at) AS __timestamp, max(value) AS "MAX(value)" FROM measurements WHERE at >= TO_TIMESTAMP('2026-01-01 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') AND at < TO_TIMESTAMP('2026-01-03 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') GROUP BY DATE_TRUNC('day', at) ORDER BY 1 DESC LIMIT 10000
-- grafana: time group
SELECT floor(extract(epoch from at)/3600)*3600 AS "time", sensor AS metric, avg(value) AS "value" FROM measurements WHERE at BETWEEN '2026-01-01T00:00:00Z' AND '2026-01-02T00:00:00Z' GROUP BY 1, sensor ORDER BY 1, 2
-- grafana: table names
SELECT CASE WHEN quote_ident(table_schema) IN (SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END FROM generate_series(array_lower(string_to_array(current_setting('search_path'),','),1), array_upper(string_to_array(current_setting('search_path'),','),1)) as i, string_to_array(current_setting('search_path'),',') s) THEN quote_ident(table_name) ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS "table" FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog') ORDER BY 1
-- grafana: stat
SELECT count(*) FILTER (WHERE value > 50), percentile_cont(0.95) WITHIN GROUP (ORDER BY value) FROM measurements
-- tableau: temporary privileges
SELECT has_database_privilege(current_database(), 'TEMP')
-- tableau: preview
SELECT "orders"."id" AS "id", "orders"."total" AS "total" FROM "public"."orders" "orders" ORDER BY 1 LIMIT 1000
-- tableau: top n
SELECT "t0"."customer", "t0"."sum" FROM (SELECT "orders"."customer", SUM("orders"."total") AS "sum" FROM "public"."orders" "orders" GROUP BY 1) "t0" INNER JOIN (SELECT "orders"."customer", SUM("orders"."total") AS "x" FROM "public"."orders" "orders" GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3) "t1" ON ("t0"."customer" = "t1"."customer") ORDER BY 2 DESC, 1
-- power bi: fold
select "_"."id", "_"."customer", "_"."total" from "public"."orders" "_" where "_"."customer" = 5 order by 1 limit 4096
-- looker: symmetric aggregate
SELECT customers.name AS "customers.name", COUNT(DISTINCT orders.id) AS "orders.count", COALESCE(SUM(orders.total), 0) AS "orders.total" FROM orders AS orders LEFT JOIN customers AS customers ON orders.customer = customers.id GROUP BY 1 ORDER BY 2 DESC, 1 FETCH NEXT 50 ROWS ONLY
-- dbt: relation exists
select table_name from information_schema.tables where table_schema ilike 'public' and table_name ilike 'orders'
-- dbt: not null test
select count(*) as failures, count(*) != 0 as should_warn from (select id from products where id is null) dbt_internal_test
-- dbt: unique test
select count(*) from (select id as unique_field, count(*) as n_records from orders where id is not null group by id having count(*) > 1) dbt_internal_test
-- dbt: accepted values
with all_values as (select queue as value_field, count(*) as n_records from jobs group by queue) select * from all_values where value_field not in ('q0', 'q1')
-- analyst: rolling average
SELECT at, avg(value) OVER (PARTITION BY sensor ORDER BY at ROWS BETWEEN 5 PRECEDING AND CURRENT ROW) FROM measurements ORDER BY at, sensor
-- analyst: gaps
SELECT sensor, at - lag(at) OVER (PARTITION BY sensor ORDER BY at) AS gap FROM measurements ORDER BY sensor, at
-- analyst: cohorts
WITH first AS (SELECT customer, min(id) AS id FROM orders GROUP BY customer), ranked AS (SELECT o.customer, o.id - f.id AS distance FROM orders o JOIN first f USING (customer)) SELECT distance / 100 AS bucket, count(DISTINCT customer) FROM ranked GROUP BY 1 ORDER BY 1
-- analyst: pivot
SELECT customer, count(*) FILTER (WHERE total < 500) AS small, count(*) FILTER (WHERE total >= 500) AS large FROM orders GROUP BY customer ORDER BY 1
-- analyst: rollup
SELECT p.tags[1], l.quantity, sum(p.price) FROM lines l JOIN products p ON p.id = l.product_id GROUP BY ROLLUP (p.tags[1], l.quantity) ORDER BY 1 NULLS LAST, 2 NULLS LAST
-- analyst: lateral
SELECT c.id, o.total FROM customers c, LATERAL (SELECT total FROM orders WHERE customer = c.id ORDER BY total DESC LIMIT 1) o WHERE c.id < 20 ORDER BY 1
-- analyst: a series joined
SELECT d::date, count(m.at) FROM generate_series(timestamp '2026-01-01', '2026-01-05', '1 day') d LEFT JOIN measurements m ON m.at::date = d::date GROUP BY 1 ORDER BY 1
-- analyst: JSON unpacked
SELECT key, count(*) FROM products, jsonb_each_text(attributes) GROUP BY key ORDER BY key
-- analyst: JSON made
SELECT jsonb_agg(jsonb_build_object('id', id, 'tags', tags) ORDER BY id) FROM products WHERE id < 4
-- analyst: arrays
SELECT unnest(tags) AS tag, array_agg(id ORDER BY id) FROM products GROUP BY 1 ORDER BY 1
-- analyst: text search
SELECT id FROM products WHERE to_tsvector('simple', name) @@ plainto_tsquery('simple', 'product 7') ORDER BY 1
-- analyst: a view
SELECT * FROM order_totals ORDER BY total DESC, id LIMIT 10
-- analyst: a sample
SELECT count(*) > 0 FROM orders TABLESAMPLE bernoulli (50) REPEATABLE (1)
-- analyst: median by group
SELECT sensor, percentile_disc(0.5) WITHIN GROUP (ORDER BY value) FROM measurements GROUP BY sensor ORDER BY 1
-- analyst: values
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v (id, name) JOIN products USING (id) ORDER BY id
-- analyst: not in
SELECT id FROM customers WHERE id NOT IN (SELECT customer FROM orders WHERE customer IS NOT NULL) ORDER BY 1
-- analyst: explain analyze of a read [volatile]
EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT count(*) FROM orders
-- analyst: copy out
COPY (SELECT id, total FROM orders WHERE id < 50 ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)
-- analyst: a cursor begins
BEGIN READ ONLY
-- analyst: a cursor
DECLARE rows CURSOR FOR SELECT id, total FROM orders ORDER BY id
-- analyst: a cursor fetched
FETCH 100 FROM rows
-- analyst: a cursor closed
CLOSE rows
-- analyst: a cursor ends
COMMIT
-- analyst: sizes
SELECT relname, pg_size_pretty(pg_relation_size(oid)) IS NOT NULL FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1
-- analyst: a statement prepared
PREPARE of_customer (int) AS SELECT id, total FROM orders WHERE customer = $1 ORDER BY id
-- analyst: a statement executed
EXECUTE of_customer (3)
-- analyst: a statement forgotten
DEALLOCATE of_customer
-- pgbouncer: reset
DISCARD ALL
