-- pgTAP: the logical-slot log. Run by pg_prove on a database of its own in which schema.sql was run and pgtap is installed.
SELECT plan(9);

SELECT is((SELECT count(*) FROM log_event('{"n": 1}')), 1::bigint, 'one event comes back');
SELECT is((SELECT count(*) FROM log_event('[{"n": 2}, {"n": 3}]')), 2::bigint, 'each element of an array is an event');
SELECT is_empty($$SELECT * FROM log_event('[]')$$, 'an empty array appends nothing');

CREATE TABLE first AS SELECT * FROM get_event(NULL, NULL, NULL, 1);
SELECT results_eq('SELECT payload ->> ''n'' FROM first', ARRAY['1'], 'NULLs read from the start');
CREATE TABLE second AS SELECT next.* FROM first f, get_event(f.settled, f.committed, f.nth, 1) AS next;
SELECT results_eq('SELECT payload ->> ''n'', nth FROM second', $$VALUES ('2', 1::bigint)$$, 'a cursor reads what follows');
SELECT results_eq('SELECT next.payload ->> ''n'', next.nth FROM second s, get_event(s.settled, s.committed, s.nth, 5) AS next',
                  $$VALUES ('3', 2::bigint)$$, 'also within a transaction');
SELECT log_event('{"n": "it''s \\ a \"quote\""}') \g /dev/null
SELECT results_eq('SELECT next.payload ->> ''n'' FROM second s, get_event(s.settled, s.committed, 2, 5) AS next',
                  ARRAY['it''s \ a "quote"'], 'a payload comes as it was');
SELECT is((SELECT count(*) FROM pg_replication_slots WHERE slot_name = events_slot()), 1::bigint, 'there is a slot');
SELECT uninstall_log() \g /dev/null
SELECT is((SELECT count(*) FROM pg_replication_slots WHERE slot_name = events_slot()), 0::bigint, 'it can be taken away');

SELECT * FROM finish();
