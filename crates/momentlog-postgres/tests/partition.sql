-- Makes the records that are there the first partition of a table by seq, up to record 100,000,000 of each log, and a second one
-- for the next as many. Run by the owner of the tables, who holds up all clients until it is done.
BEGIN;
LOCK TABLE momentlog.records;
DROP TRIGGER records_stay ON momentlog.records;
DROP TRIGGER records_are_not_truncated ON momentlog.records;
ALTER TABLE momentlog.records RENAME TO records_1;
CREATE TABLE momentlog.records (LIKE momentlog.records_1 INCLUDING CONSTRAINTS INCLUDING INDEXES)
    PARTITION BY RANGE (seq);
ALTER TABLE momentlog.records ATTACH PARTITION momentlog.records_1 FOR VALUES FROM (1) TO (100000001);
CREATE TABLE momentlog.records_2 PARTITION OF momentlog.records FOR VALUES FROM (100000001) TO (200000001);
CREATE TRIGGER records_stay BEFORE UPDATE OR DELETE ON momentlog.records
    FOR EACH ROW EXECUTE FUNCTION momentlog.refuse();
CREATE TRIGGER records_are_not_truncated BEFORE TRUNCATE ON momentlog.records
    FOR EACH STATEMENT EXECUTE FUNCTION momentlog.refuse();
-- Partitions have the triggers for rows from their table, and none for statements: each needs this one.
CREATE TRIGGER records_are_not_truncated BEFORE TRUNCATE ON momentlog.records_1
    FOR EACH STATEMENT EXECUTE FUNCTION momentlog.refuse();
CREATE TRIGGER records_are_not_truncated BEFORE TRUNCATE ON momentlog.records_2
    FOR EACH STATEMENT EXECUTE FUNCTION momentlog.refuse();
GRANT SELECT ON momentlog.records TO momentlog_reader;
COMMIT;
