-- Logs, their records and images, and the functions that write them. The database checks what a client appends.

CREATE SCHEMA momentlog;

CREATE TABLE momentlog.migrations (
    number integer PRIMARY KEY,
    applied timestamptz NOT NULL DEFAULT now()
);

-- Eight bytes, least significant first.
CREATE FUNCTION momentlog.le(number bigint) RETURNS bytea
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN substr(int8send(number), 8, 1) || substr(int8send(number), 7, 1)
        || substr(int8send(number), 6, 1) || substr(int8send(number), 5, 1)
        || substr(int8send(number), 4, 1) || substr(int8send(number), 3, 1)
        || substr(int8send(number), 2, 1) || substr(int8send(number), 1, 1);

-- What a digest covers of a text. Of an erased text, which is NULL, `salt` is the commitment.
CREATE FUNCTION momentlog.commitment(salt bytea, body bytea) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN body IS NULL THEN salt
        ELSE sha256('momentlog text v1'::bytea || salt || momentlog.le(octet_length(body)) || body) END;

-- The digest of a record, as `docs/format.md` defines it.
CREATE FUNCTION momentlog.digest(log uuid, seq bigint, previous bytea, facts bytea, salts bytea[], texts bytea[])
    RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN sha256('momentlog record v1'::bytea || uuid_send(log) || momentlog.le(seq) || previous
        || momentlog.le(octet_length(facts)) || facts
        || coalesce((
            SELECT string_agg(momentlog.commitment(one.salt, one.body), ''::bytea ORDER BY one.place)
            FROM unnest(salts, texts) WITH ORDINALITY AS one (salt, body, place)
        ), ''::bytea));

CREATE TABLE momentlog.logs (
    number integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    name text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 200),
    -- The log's id, which its first append gives it.
    log uuid UNIQUE,
    created timestamptz NOT NULL DEFAULT now()
);

-- `previous` is 32 zeros in the first record. `salts`, `texts` and `lengths` have one element for each text; an erased
-- text is NULL and keeps its length. `frame_len` is the length that the record's frame has in a directory.
CREATE TABLE momentlog.records (
    log uuid NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 1),
    previous bytea NOT NULL CHECK (octet_length(previous) = 32),
    digest bytea NOT NULL,
    facts bytea NOT NULL,
    salts bytea[] NOT NULL,
    texts bytea[] NOT NULL,
    lengths integer[] NOT NULL CHECK (0 <= ALL (lengths)),
    frame_len bigint NOT NULL CHECK (frame_len BETWEEN 104 AND 67108864),
    PRIMARY KEY (log, seq),
    CHECK (cardinality(salts) = cardinality(texts) AND cardinality(texts) = cardinality(lengths)),
    CONSTRAINT the_digest_is_that_of_what_the_record_holds
        CHECK (digest = momentlog.digest(log, seq, previous, facts, salts, texts))
);

CREATE TABLE momentlog.images (
    log uuid NOT NULL,
    seq bigint NOT NULL,
    -- The digest of the record that the image is of.
    digest bytea NOT NULL,
    parts integer NOT NULL,
    -- SHA-256 of the body.
    checksum bytea NOT NULL,
    PRIMARY KEY (log, seq)
);

CREATE TABLE momentlog.image_parts (
    log uuid NOT NULL,
    seq bigint NOT NULL,
    part integer NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (log, seq, part),
    FOREIGN KEY (log, seq) REFERENCES momentlog.images (log, seq) ON DELETE CASCADE
);

CREATE FUNCTION momentlog.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the records of a log are neither changed nor removed' USING ERRCODE = 'ML002';
END $$;

CREATE TRIGGER records_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON momentlog.records
    FOR EACH STATEMENT EXECUTE FUNCTION momentlog.refuse();

-- Waits until this transaction is the only one that writes the log, and returns the end of the log; and the digest of
-- the record `seen`, for a client that compares it with what it has seen there.
CREATE FUNCTION momentlog.take_turn(log_name text, seen bigint)
    RETURNS TABLE (log bytea, seq bigint, digest bytea, seen_digest bytea)
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
            (SELECT records.digest FROM momentlog.records WHERE records.log = logs.log AND records.seq = take_turn.seen)
        FROM momentlog.logs LEFT JOIN LATERAL (
            SELECT records.seq, records.digest FROM momentlog.records
            WHERE records.log = logs.log ORDER BY records.seq DESC LIMIT 1
        ) AS newest ON true
        WHERE logs.name = log_name;
END $$;

-- Appends records after `expected_seq`, which must be the end of the log and have the digest `expected_digest`; 0 and NULL for
-- an empty log, which `log_id` becomes the id of. The texts of all records come in one list; `owners` has for each the place
-- of its record, from 1.
CREATE FUNCTION momentlog.append(
    log_name text, log_id bytea, expected_seq bigint, expected_digest bytea,
    digests bytea[], facts bytea[], owners integer[], salts bytea[], texts bytea[], lengths integer[]
) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head record;
    id uuid;
BEGIN
    SELECT * INTO head FROM momentlog.take_turn(log_name, NULL);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no log of this name' USING ERRCODE = 'ML003';
    END IF;
    IF coalesce(head.seq, 0) IS DISTINCT FROM expected_seq OR head.digest IS DISTINCT FROM expected_digest THEN
        RAISE EXCEPTION 'the log does not end where the append expects it' USING ERRCODE = 'ML001';
    END IF;
    IF coalesce(cardinality(facts), 0) = 0
        OR cardinality(digests) IS DISTINCT FROM cardinality(facts)
        OR cardinality(owners) IS DISTINCT FROM cardinality(salts)
        OR cardinality(salts) IS DISTINCT FROM cardinality(texts)
        OR cardinality(texts) IS DISTINCT FROM cardinality(lengths)
        OR EXISTS (SELECT FROM unnest(owners) AS owner WHERE owner IS NULL OR owner NOT BETWEEN 1 AND cardinality(facts))
        OR EXISTS (SELECT FROM unnest(salts) AS salt WHERE salt IS NULL OR octet_length(salt) <> 32)
    THEN
        RAISE EXCEPTION 'the parts of the records do not fit together' USING ERRCODE = 'ML004';
    END IF;
    IF head.log IS NULL THEN
        IF octet_length(log_id) IS DISTINCT FROM 16 THEN
            RAISE EXCEPTION 'the id of a log has 16 bytes' USING ERRCODE = 'ML004';
        END IF;
        id := encode(log_id, 'hex')::uuid;
        UPDATE momentlog.logs SET log = id WHERE name = log_name;
    ELSE
        id := encode(head.log, 'hex')::uuid;
    END IF;
    INSERT INTO momentlog.records (log, seq, previous, digest, facts, salts, texts, lengths, frame_len)
    SELECT id, expected_seq + given.place,
        coalesce(lag(given.digest) OVER (ORDER BY given.place), expected_digest, decode(repeat('00', 32), 'hex')),
        given.digest, given.facts,
        coalesce(own.salts, '{}'), coalesce(own.texts, '{}'), coalesce(own.lengths, '{}'),
        (96 + octet_length(given.facts) + coalesce(own.total, 0) + 4 + 7) / 8 * 8
    FROM unnest(append.digests, append.facts) WITH ORDINALITY AS given (digest, facts, place)
    LEFT JOIN (
        SELECT one.owner, array_agg(one.salt ORDER BY one.place) AS salts, array_agg(one.body ORDER BY one.place) AS texts,
            array_agg(coalesce(octet_length(one.body), one.length) ORDER BY one.place) AS lengths,
            sum(40 + coalesce(octet_length(one.body), one.length)) AS total
        FROM unnest(append.owners, append.salts, append.texts, append.lengths) WITH ORDINALITY
            AS one (owner, salt, body, length, place)
        GROUP BY one.owner
    ) AS own ON own.owner = given.place;
END $$;

-- Keeps one part of an image, from 0; all parts come in one transaction. The last one removes the images before the newest two.
CREATE FUNCTION momentlog.put_image_part(
    log_name text, image_seq bigint, image_digest bytea, image_parts integer, image_checksum bytea, image_part integer,
    part_body bytea
) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id uuid;
BEGIN
    SELECT records.log INTO id FROM momentlog.logs JOIN momentlog.records ON records.log = logs.log
        WHERE logs.name = log_name AND records.seq = image_seq AND records.digest = image_digest;
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
        );
    END IF;
END $$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'momentlog_reader') THEN
        CREATE ROLE momentlog_reader NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'momentlog_writer') THEN
        CREATE ROLE momentlog_writer NOLOGIN;
    END IF;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA momentlog FROM PUBLIC;
GRANT momentlog_reader TO momentlog_writer;
GRANT USAGE ON SCHEMA momentlog TO momentlog_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA momentlog TO momentlog_reader;
GRANT EXECUTE ON FUNCTION momentlog.le, momentlog.commitment, momentlog.digest TO momentlog_reader;
GRANT EXECUTE ON FUNCTION momentlog.take_turn, momentlog.append, momentlog.put_image_part TO momentlog_writer;
