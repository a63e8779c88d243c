-- What may be taken away of a log, by whom, and the mark that it leaves: records that lie in an archive, and texts of which
-- the commitment stays.

-- The record behind which the log begins here, once those up to it were archived.
ALTER TABLE momentlog.logs
    ADD COLUMN start_seq bigint CHECK (start_seq >= 1),
    ADD COLUMN start_digest bytea CHECK (octet_length(start_digest) = 32),
    ADD CHECK ((start_seq IS NULL) = (start_digest IS NULL));

-- As before, with the beginning of the log.
DROP FUNCTION momentlog.take_turn;
CREATE FUNCTION momentlog.take_turn(log_name text, seen bigint)
    RETURNS TABLE (log bytea, seq bigint, digest bytea, seen_digest bytea, start_seq bigint, start_digest bytea)
    LANGUAGE plpgsql AS $$
DECLARE
    lock_number integer;
BEGIN
    SELECT logs.number INTO lock_number FROM momentlog.logs WHERE logs.name = log_name;
    IF lock_number IS NULL THEN
        RETURN;
    END IF;
    -- What was answered is kept, whatever this session is set to.
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    -- First come, first served. Rows are locked in no such order.
    PERFORM pg_advisory_xact_lock(1836016748, lock_number);
    RETURN QUERY
        SELECT uuid_send(logs.log), newest.seq, newest.digest,
            (SELECT records.digest FROM momentlog.records WHERE records.log = logs.log AND records.seq = take_turn.seen),
            logs.start_seq, logs.start_digest
        FROM momentlog.logs LEFT JOIN LATERAL (
            SELECT records.seq, records.digest FROM momentlog.records
            WHERE records.log = logs.log ORDER BY records.seq DESC LIMIT 1
        ) AS newest ON true
        WHERE logs.name = log_name;
END $$;

-- As before; and the image that an archived log begins with stays.
CREATE OR REPLACE FUNCTION momentlog.put_image_part(
    log_name text, image_seq bigint, image_digest bytea, image_parts integer, image_checksum bytea, image_part integer,
    part_body bytea
) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id uuid;
BEGIN
    -- No archive begins with an image of which another transaction puts the parts.
    SELECT records.log INTO id FROM momentlog.logs JOIN momentlog.records ON records.log = logs.log
        WHERE logs.name = log_name AND records.seq = image_seq AND records.digest = image_digest
            AND (logs.start_seq IS NULL OR records.seq > logs.start_seq)
        FOR SHARE OF logs;
    IF id IS NULL THEN
        RAISE EXCEPTION 'the log does not hold the record of the image' USING ERRCODE = 'ML004';
    END IF;
    IF image_part = 0 THEN
        DELETE FROM momentlog.images WHERE log = id AND seq = image_seq;
        INSERT INTO momentlog.images VALUES (id, image_seq, image_digest, image_parts, image_checksum);
    END IF;
    INSERT INTO momentlog.image_parts VALUES (id, image_seq, image_part, part_body);
    IF image_part = image_parts - 1 THEN
        DELETE FROM momentlog.images WHERE log = id AND seq NOT IN (
            SELECT kept.seq FROM momentlog.images AS kept WHERE kept.log = id ORDER BY kept.seq DESC LIMIT 2
        ) AND seq IS DISTINCT FROM (SELECT start_seq FROM momentlog.logs WHERE name = log_name);
    END IF;
END $$;

-- What was taken away of which log, when, and by which user of the database.
CREATE TABLE momentlog.removals (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    log uuid NOT NULL,
    what text NOT NULL CHECK (what IN ('archived', 'erased')),
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    -- The place of an erased text in its record, from 0.
    text integer,
    by_user text NOT NULL DEFAULT session_user,
    at timestamptz NOT NULL DEFAULT now()
);

-- A record goes only if its log begins behind it. A text goes only if its commitment comes in its place: the digest of the
-- record, which its constraint recomputes, covers everything else. Both hold for an owner of the tables as well.
CREATE OR REPLACE FUNCTION momentlog.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND TG_LEVEL = 'ROW' THEN
        IF OLD.seq <= (SELECT logs.start_seq FROM momentlog.logs WHERE logs.log = OLD.log) THEN
            RETURN OLD;
        END IF;
    ELSIF TG_OP = 'UPDATE' AND TG_LEVEL = 'ROW' THEN
        IF (NEW.log, NEW.seq, NEW.previous, NEW.digest, NEW.facts, NEW.lengths, NEW.frame_len)
            IS NOT DISTINCT FROM (OLD.log, OLD.seq, OLD.previous, OLD.digest, OLD.facts, OLD.lengths, OLD.frame_len)
        THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the records of a log are neither changed nor removed' USING ERRCODE = 'ML002';
END $$;

DROP TRIGGER records_stay ON momentlog.records;
CREATE TRIGGER records_stay BEFORE UPDATE OR DELETE ON momentlog.records
    FOR EACH ROW EXECUTE FUNCTION momentlog.refuse();
CREATE TRIGGER records_are_not_truncated BEFORE TRUNCATE ON momentlog.records
    FOR EACH STATEMENT EXECUTE FUNCTION momentlog.refuse();
CREATE TRIGGER removals_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON momentlog.removals
    FOR EACH STATEMENT EXECUTE FUNCTION momentlog.refuse();

-- Appends one record, the bridge, as momentlog.append does, and lets the log begin with it: the records before it are removed,
-- of which the caller has written an archive. The log keeps an image of its state at its new beginning.
CREATE FUNCTION momentlog.archive(
    log_name text, log_id bytea, expected_seq bigint, expected_digest bytea,
    digests bytea[], facts bytea[], owners integer[], salts bytea[], texts bytea[], lengths integer[]
) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id uuid;
    first_seq bigint;
BEGIN
    PERFORM momentlog.append(log_name, log_id, expected_seq, expected_digest, digests, facts, owners, salts, texts, lengths);
    SELECT logs.log, coalesce(logs.start_seq, 0) + 1 INTO id, first_seq FROM momentlog.logs WHERE logs.name = log_name;
    -- It waits for those who put parts of an image, and those who come later are refused.
    UPDATE momentlog.logs SET start_seq = expected_seq, start_digest = expected_digest WHERE logs.log = id;
    IF cardinality(facts) <> 1 OR NOT EXISTS (
        SELECT FROM momentlog.images WHERE images.log = id AND images.seq = expected_seq AND images.digest = expected_digest
            AND images.parts = (
                SELECT count(*) FROM momentlog.image_parts AS part
                WHERE part.log = id AND part.seq = expected_seq AND part.part < images.parts
            )
    ) THEN
        RAISE EXCEPTION 'a log begins with an image and one record that stands for those before' USING ERRCODE = 'ML004';
    END IF;
    DELETE FROM momentlog.records WHERE records.log = id AND records.seq <= expected_seq;
    DELETE FROM momentlog.images WHERE images.log = id AND images.seq < expected_seq;
    INSERT INTO momentlog.removals (log, what, first_seq, last_seq) VALUES (id, 'archived', first_seq, expected_seq);
END $$;

-- Removes a text of a record, from 0, for ever: its commitment and its length stay. Returns whether it was still there.
CREATE FUNCTION momentlog.erase(log_name text, record_seq bigint, text_number integer) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id uuid;
    place integer := text_number + 1;
BEGIN
    SELECT logs.log INTO id FROM momentlog.take_turn(log_name, NULL) AS turn, momentlog.logs WHERE logs.name = log_name;
    UPDATE momentlog.records
        SET salts[place] = momentlog.commitment(salts[place], texts[place]), texts[place] = NULL
        WHERE records.log = id AND records.seq = record_seq AND texts[place] IS NOT NULL;
    IF FOUND THEN
        -- An image may hold it.
        DELETE FROM momentlog.images WHERE images.log = id AND images.seq >= record_seq;
        INSERT INTO momentlog.removals (log, what, first_seq, last_seq, text)
            VALUES (id, 'erased', record_seq, record_seq, text_number);
        RETURN true;
    END IF;
    IF NOT EXISTS (
        SELECT FROM momentlog.records
        WHERE records.log = id AND records.seq = record_seq AND text_number BETWEEN 0 AND cardinality(texts) - 1
    ) THEN
        RAISE EXCEPTION 'there is no such text' USING ERRCODE = 'ML005';
    END IF;
    RETURN false;
END $$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'momentlog_keeper') THEN
        CREATE ROLE momentlog_keeper NOLOGIN;
    END IF;
END $$;

REVOKE ALL ON FUNCTION momentlog.take_turn, momentlog.archive, momentlog.erase FROM PUBLIC;
GRANT EXECUTE ON FUNCTION momentlog.take_turn TO momentlog_writer;
GRANT momentlog_writer TO momentlog_keeper;
GRANT SELECT ON momentlog.removals TO momentlog_reader;
GRANT EXECUTE ON FUNCTION momentlog.archive, momentlog.erase TO momentlog_keeper;
