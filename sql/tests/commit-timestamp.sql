-- pgTAP: the commit-timestamp log. Run by pg_prove on a database of its own in which schema.sql was run and pgtap is installed.
SELECT plan(8);

SELECT is((SELECT count(*) FROM log_event('{"n": 1}')), 1::bigint, 'one event comes back');
SELECT is((SELECT count(*) FROM log_event('[{"n": 2}, {"n": 3}]')), 2::bigint, 'each element of an array is an event');
SELECT is_empty($$SELECT * FROM log_event('[]')$$, 'an empty array appends nothing');

SELECT results_eq('SELECT payload ->> ''n'' FROM get_event()', ARRAY['1'], 'get_event() yields the first');
SELECT throws_ok($$SELECT get_event('101112', '10')$$, '42883', NULL, 'an etag alone is an error');
SELECT results_eq('SELECT payload ->> ''n'' FROM get_event(NULL, NULL, 2)', ARRAY['1', '2'], 'NULLs read from the start');
SELECT results_eq(
    $$SELECT next.payload ->> 'n' FROM (SELECT * FROM get_event(NULL, NULL, 2) OFFSET 1) AS e,
             get_event(e.committed, e.etag, 2) AS next$$,
    ARRAY['3'], 'a time with an etag reads what follows');
SELECT results_eq('SELECT count(DISTINCT committed) FROM get_event(NULL, NULL, 9)', ARRAY[2::bigint],
                  'a transaction has one time');

SELECT * FROM finish();
