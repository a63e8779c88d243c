-- Whether every log is one chain: a row for each record that is not what its digest says, does not follow the record
-- before it, or leaves a gap. No row means that all is well. It uses no function of the schema.
WITH chained AS (
    SELECT records.log, seq, previous, digest, facts, salts, texts,
        coalesce(lag(seq) OVER one_log, start_seq, 0) AS seq_before,
        coalesce(lag(digest) OVER one_log, start_digest, decode(repeat('00', 32), 'hex')) AS digest_before
    FROM momentlog.records LEFT JOIN momentlog.logs ON logs.log = records.log
    WINDOW one_log AS (PARTITION BY records.log ORDER BY seq)
), numbers AS (
    SELECT log, seq, previous, digest, facts, salts, texts, seq_before, digest_before,
        (SELECT string_agg(set_byte('\x00', 0, ((seq >> (8 * byte)) & 255)::int), ''::bytea ORDER BY byte)
            FROM generate_series(0, 7) AS byte) AS seq_bytes,
        (SELECT string_agg(set_byte('\x00', 0, ((octet_length(facts)::bigint >> (8 * byte)) & 255)::int), ''::bytea ORDER BY byte)
            FROM generate_series(0, 7) AS byte) AS facts_length,
        coalesce((SELECT string_agg(
            CASE WHEN body IS NULL THEN salt
            ELSE sha256('momentlog text v1'::bytea || salt || (
                SELECT string_agg(set_byte('\x00', 0, ((octet_length(body)::bigint >> (8 * byte)) & 255)::int), ''::bytea ORDER BY byte)
                FROM generate_series(0, 7) AS byte
            ) || body) END, ''::bytea ORDER BY place)
            FROM unnest(salts, texts) WITH ORDINALITY AS one (salt, body, place)), ''::bytea) AS commitments
    FROM chained
)
SELECT log, seq FROM numbers
WHERE seq <> seq_before + 1 OR previous <> digest_before
    OR digest <> sha256('momentlog record v1'::bytea || uuid_send(log) || seq_bytes || previous || facts_length || facts || commitments)
ORDER BY log, seq
