-- driver settings
SET extra_float_digits = 3
-- application name
SET application_name = 'DBeaver 24.1.0 - Main <orders>'
-- version
SELECT version()
-- where am I
SELECT current_schema(), session_user
-- search path
SHOW search_path
-- probe of columns that only some versions have
SELECT reltype FROM pg_catalog.pg_class WHERE 1 <> 1 LIMIT 1
-- probe of type categories
SELECT typcategory FROM pg_catalog.pg_type WHERE 1 <> 1 LIMIT 1
-- keywords
SELECT string_agg(word, ',') FROM pg_catalog.pg_get_keywords() WHERE word <> ALL ('{select,from,where}'::text[])
-- databases
SELECT db.oid, db.* FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate ORDER BY db.datname
-- size of the database [volatile]
SELECT pg_catalog.pg_database_size(current_database())
-- roles
SELECT a.oid, a.rolname, a.rolsuper, a.rolcanlogin, a.rolconnlimit, a.rolconfig FROM pg_catalog.pg_roles a ORDER BY a.rolname
-- memberships of roles
SELECT m.roleid::regrole, m.member::regrole, m.admin_option FROM pg_catalog.pg_auth_members m ORDER BY 1, 2
-- tablespaces
SELECT t.oid, t.*, pg_catalog.pg_tablespace_location(t.oid) AS loc FROM pg_catalog.pg_tablespace t ORDER BY t.oid
-- access methods
SELECT am.oid, am.* FROM pg_catalog.pg_am am ORDER BY am.oid
-- languages
SELECT l.oid, l.* FROM pg_catalog.pg_language l ORDER BY l.oid
-- encodings
WITH encodings AS (SELECT generate_series(0, 41) AS number) SELECT number, pg_catalog.pg_encoding_to_char(number) AS name FROM encodings WHERE pg_catalog.pg_encoding_to_char(number) <> '' ORDER BY number
-- schemas with comments
SELECT n.oid, n.*, d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = n.oid AND d.objsubid = 0 AND d.classoid = 'pg_catalog.pg_namespace'::regclass ORDER BY n.nspname
-- types
SELECT t.oid, t.*, c.relkind, pg_catalog.format_type(nullif(t.typbasetype, 0), t.typtypmod) AS base_type_name, d.description FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid = t.typrelid LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = t.oid WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') ORDER BY t.oid, d.description
-- values of enums
SELECT e.* FROM pg_catalog.pg_enum e WHERE e.enumtypid = 'public.order_state'::regtype ORDER BY e.enumsortorder
-- tables of a schema
SELECT c.oid, c.relname, c.relkind, c.relowner, c.relacl, d.description, pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS partition_expr, pg_catalog.pg_get_partkeydef(c.oid) AS partition_key FROM pg_catalog.pg_class c LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass WHERE c.relnamespace = 'public'::regnamespace AND c.relkind NOT IN ('i', 'I', 'c') ORDER BY c.relname
-- columns of all tables of a schema
SELECT c.relname, a.*, pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) AS def_value, dsc.description, dep.objid FROM pg_catalog.pg_attribute a INNER JOIN pg_catalog.pg_class c ON a.attrelid = c.oid LEFT OUTER JOIN pg_catalog.pg_attrdef ad ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum LEFT OUTER JOIN pg_catalog.pg_description dsc ON c.oid = dsc.objoid AND a.attnum = dsc.objsubid LEFT OUTER JOIN pg_catalog.pg_depend dep ON dep.refobjid = a.attrelid AND dep.deptype = 'i' AND dep.refobjsubid = a.attnum AND dep.classid = dep.refclassid WHERE NOT a.attisdropped AND c.relkind NOT IN ('i', 'I', 'c') AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 ORDER BY c.relname, a.attnum
-- constraints
SELECT c.oid, c.*, t.relname AS tabrelname, rt.relnamespace AS refnamespace, d.description, CASE WHEN c.contype = 'c' THEN substring(pg_catalog.pg_get_constraintdef(c.oid), 7) END AS consrc_copy FROM pg_catalog.pg_constraint c INNER JOIN pg_catalog.pg_class t ON t.oid = c.conrelid LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid = c.confrelid LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_constraint'::regclass WHERE t.relnamespace = 'public'::regnamespace ORDER BY c.oid
-- indexes [volatile]
SELECT i.*, i.indkey AS keys, c.relname, c.relnamespace, c.relam, c.reltablespace, tc.relname AS tabrelname, dsc.description, pg_catalog.pg_get_expr(i.indpred, i.indrelid) AS pred_expr, pg_catalog.pg_get_expr(i.indexprs, i.indrelid, true) AS expr, pg_catalog.pg_relation_size(i.indexrelid) AS index_rel_size, pg_catalog.pg_stat_get_numscans(i.indexrelid) AS index_num_scans FROM pg_catalog.pg_index i INNER JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid INNER JOIN pg_catalog.pg_class tc ON tc.oid = i.indrelid LEFT OUTER JOIN pg_catalog.pg_description dsc ON i.indexrelid = dsc.objoid WHERE tc.relnamespace = 'public'::regnamespace ORDER BY tc.relname, c.relname
-- definition of an index
SELECT pg_catalog.pg_get_indexdef('public.orders_pkey'::regclass)
-- triggers
SELECT x.oid, x.*, p.pronamespace AS func_schema_id, d.description, pg_catalog.pg_get_triggerdef(x.oid, true) FROM pg_catalog.pg_trigger x LEFT OUTER JOIN pg_catalog.pg_proc p ON p.oid = x.tgfoid LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = x.oid AND d.objsubid = 0 WHERE x.tgrelid = 'public.orders'::regclass AND NOT x.tgisinternal ORDER BY x.oid
-- rules
SELECT r.oid, r.*, pg_catalog.pg_get_ruledef(r.oid, true) AS rule_source FROM pg_catalog.pg_rewrite r WHERE r.ev_class = 'public.big_orders'::regclass ORDER BY r.rulename
-- policies
SELECT p.oid, p.polname, pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) FROM pg_catalog.pg_policy p WHERE p.polrelid = 'public.orders'::regclass
-- definition of a view
SELECT pg_catalog.pg_get_viewdef('public.big_orders'::regclass, true)
-- functions of a schema
SELECT p.oid, p.*, CASE WHEN p.prokind = 'a' THEN '' ELSE pg_catalog.pg_get_functiondef(p.oid) END AS source, pg_catalog.pg_get_expr(p.proargdefaults, 0) AS arg_defaults, d.description FROM pg_catalog.pg_proc p LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = p.oid WHERE p.pronamespace = 'public'::regnamespace ORDER BY p.proname
-- sequences
SELECT c.oid, d.description, s.*, pg_catalog.pg_sequence_last_value(c.oid) FROM pg_catalog.pg_class c LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid, pg_catalog.pg_sequence s WHERE c.oid = s.seqrelid AND c.relnamespace = 'public'::regnamespace ORDER BY c.oid
-- partitions and inheritance
SELECT i.*, c.relnamespace, pc.relnamespace AS parent_ns, pc.relname AS parent FROM pg_catalog.pg_inherits i INNER JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid INNER JOIN pg_catalog.pg_class pc ON pc.oid = i.inhparent WHERE pc.relnamespace = 'public'::regnamespace ORDER BY i.inhrelid, i.inhseqno
-- sizes of a table
SELECT c.oid, pg_catalog.pg_total_relation_size(c.oid) AS total_rel_size, pg_catalog.pg_relation_size(c.oid) AS rel_size FROM pg_catalog.pg_class c WHERE c.oid = 'public.orders'::regclass
-- statistics of a table [volatile]
SELECT * FROM pg_catalog.pg_stat_all_tables WHERE relid = 'public.orders'::regclass
-- what depends on a table
SELECT dep.deptype, dep.classid::regclass, dep.objid, cl.relname, cl.relkind FROM pg_catalog.pg_depend dep LEFT OUTER JOIN pg_catalog.pg_class cl ON dep.objid = cl.oid WHERE dep.refobjid = 'public.orders'::regclass ORDER BY 1, 2, 3
-- privileges on a table
SELECT * FROM information_schema.table_privileges WHERE table_catalog = 'orders' AND table_schema = 'public' AND table_name = 'orders' ORDER BY privilege_type, grantee
-- privileges on columns
SELECT c.relname, a.attname, a.attacl FROM pg_catalog.pg_attribute a, pg_catalog.pg_class c WHERE c.oid = a.attrelid AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND a.attacl IS NOT NULL
-- settings
SELECT * FROM pg_catalog.pg_settings WHERE name IN ('server_version', 'search_path', 'max_connections', 'DateStyle') ORDER BY name
-- installed extensions
SELECT e.oid, e.*, n.nspname AS schema_name FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY e.oid
-- extensions that could be installed
SELECT * FROM pg_catalog.pg_available_extensions ORDER BY name LIMIT 5
-- foreign servers
SELECT f.oid, f.srvname, w.fdwname FROM pg_catalog.pg_foreign_server f JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = f.srvfdw
-- event triggers
SELECT t.oid, t.evtname, t.evtevent FROM pg_catalog.pg_event_trigger t
-- sessions of the server [volatile] [reader: admin]
SELECT sa.* FROM pg_catalog.pg_stat_activity sa ORDER BY sa.pid
-- locks [volatile] [reader: admin]
SELECT l.locktype, l.mode, l.granted, a.usename FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
-- rows of a table
SELECT x.* FROM public.orders x ORDER BY x.id LIMIT 200
-- how many rows
SELECT count(*) FROM public.orders
-- a plan [volatile]
EXPLAIN (FORMAT XML, VERBOSE) SELECT * FROM public.orders
-- search for an object
SELECT pc.oid, pc.relname, pc.relnamespace, pc.relkind FROM pg_catalog.pg_class pc WHERE pc.relkind IN ('r', 'v', 'm') AND pc.relname ILIKE '%order%' AND pc.relnamespace = 'public'::regnamespace ORDER BY pc.relname LIMIT 10
