SELECT c.oid, s.nspname, c.relname, c.relkind,
    CASE WHEN c.relkind IN ('v', 'm') AND c.oid >= 16384 THEN pg_get_viewdef(c.oid) END
  FROM pg_class AS c JOIN pg_namespace AS s ON s.oid = c.relnamespace
  WHERE c.relpersistence <> 't' AND c.relkind NOT IN ('t', 'i', 'I');

SELECT a.attrelid, a.attnum, a.attname, a.atttypid
  FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
  WHERE c.relpersistence <> 't' AND c.relkind NOT IN ('t', 'i', 'I')
    AND a.attnum > 0 AND NOT a.attisdropped
  ORDER BY a.attrelid, a.attnum;

SELECT h.inhrelid, h.inhparent FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhrelid
  WHERE c.relpersistence <> 't' AND c.relkind NOT IN ('i', 'I') ORDER BY h.inhrelid, h.inhseqno;

SELECT r.ev_class, r.ev_type, pg_get_ruledef(r.oid)
  FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = r.ev_class
  WHERE r.rulename <> '_RETURN' AND r.ev_enabled <> 'D' AND r.oid >= 16384
    AND c.relpersistence <> 't';

SELECT t.tgrelid, t.tgtype, s.nspname, p.proname,
    CASE WHEN t.tgqual IS NOT NULL THEN pg_get_triggerdef(t.oid) END
  FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
  JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN pg_namespace AS s ON s.oid = p.pronamespace
  WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND c.relpersistence <> 't';

SELECT n.conrelid, n.confrelid, n.confupdtype, n.confdeltype, n.conkey, n.confkey
  FROM pg_constraint AS n JOIN pg_class AS c ON c.oid = n.conrelid
  WHERE n.contype = 'f' AND c.relpersistence <> 't';

SELECT d.adrelid, 'w', pg_get_expr(d.adbin, d.adrelid)
  FROM pg_attrdef AS d JOIN pg_class AS c ON c.oid = d.adrelid
  WHERE c.relpersistence <> 't' AND d.oid >= 16384
UNION ALL SELECT n.conrelid, 'w', pg_get_expr(n.conbin, n.conrelid)
  FROM pg_constraint AS n JOIN pg_class AS c ON c.oid = n.conrelid
  WHERE n.contype = 'c' AND c.relpersistence <> 't' AND n.oid >= 16384
UNION ALL SELECT i.indrelid, 'w', e.expression
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid,
  LATERAL (VALUES (pg_get_expr(i.indexprs, i.indrelid)), (pg_get_expr(i.indpred, i.indrelid)))
    AS e (expression)
  WHERE e.expression IS NOT NULL AND c.relpersistence <> 't' AND i.indexrelid >= 16384
UNION ALL SELECT g.partrelid, 'w', pg_get_expr(g.partexprs, g.partrelid)
  FROM pg_partitioned_table AS g JOIN pg_class AS c ON c.oid = g.partrelid
  WHERE g.partexprs IS NOT NULL AND c.relpersistence <> 't'
UNION ALL SELECT p.polrelid, 'a', e.expression
  FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid,
  LATERAL (VALUES (pg_get_expr(p.polqual, p.polrelid)), (pg_get_expr(p.polwithcheck, p.polrelid)))
    AS e (expression)
  WHERE e.expression IS NOT NULL AND c.relpersistence <> 't';

SELECT i.indrelid, i.indkey FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
  WHERE (i.indisunique OR i.indisexclusion) AND c.relpersistence <> 't' AND c.relkind <> 't';

SELECT s.nspname, p.proname, p.proargtypes, p.pronargdefaults, p.provariadic, p.prorettype,
    p.proretset, p.prokind, l.lanname, p.provolatile, p.prosecdef, e.extname,
    CASE WHEN l.lanname IN ('sql', 'plpgsql')
      THEN coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) END,
    array_to_json(p.proallargtypes), array_to_json(p.proargmodes), array_to_json(p.proargnames)
  FROM pg_proc AS p JOIN pg_namespace AS s ON s.oid = p.pronamespace
  JOIN pg_language AS l ON l.oid = p.prolang
  LEFT JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
    AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
  LEFT JOIN pg_extension AS e ON e.oid = d.refobjid
  WHERE p.oid >= 16384;

SELECT s.nspname, o.oprname, ps.nspname, p.proname
  FROM pg_operator AS o JOIN pg_namespace AS s ON s.oid = o.oprnamespace
  JOIN pg_proc AS p ON p.oid = o.oprcode JOIN pg_namespace AS ps ON ps.oid = p.pronamespace
  WHERE o.oid >= 16384;

SELECT t.oid, s.nspname, t.typname, t.typtype, t.typrelid, t.typelem, t.typcategory,
    t.typbasetype, r.rngsubtype
  FROM pg_type AS t JOIN pg_namespace AS s ON s.oid = t.typnamespace
  LEFT JOIN pg_class AS c ON c.oid = t.typrelid LEFT JOIN pg_range AS r ON r.rngtypid = t.oid
  WHERE (t.oid >= 16384 OR t.typrelid <> 0) AND c.relpersistence IS DISTINCT FROM 't'
    AND s.nspname !~ '^pg_(toast_)?temp_';

SELECT contypid, pg_get_expr(conbin, 0) FROM pg_constraint WHERE contypid <> 0 AND contype = 'c'
    AND oid >= 16384;

SELECT k.castsource, k.casttarget, s.nspname, p.proname, k.castcontext
  FROM pg_cast AS k LEFT JOIN pg_proc AS p ON p.oid = k.castfunc
  LEFT JOIN pg_namespace AS s ON s.oid = p.pronamespace
  WHERE k.oid >= 16384
