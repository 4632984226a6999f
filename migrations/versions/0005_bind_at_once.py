"""A function of PostgreSQL that binds what most pods ask for in one round trip.

Nothing changes for the release before, which does not call it. `danmpy.ipam.shortcut` says what the
function is asked and answers, and when it does nothing.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIND = r"""
CREATE FUNCTION danmpy_bind(asked jsonb)
RETURNS TABLE (lease_id bigint, address bytea, held_from bigint, next_fresh bytea)
LANGUAGE plpgsql
-- Plans are made once a connection, also while the tables are still empty.
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    its_namespace CONSTANT text := asked->>'namespace';
    its_pod CONSTANT text := asked->>'pod';
    its_uid CONSTANT text := asked->>'pod_uid';
    its_container CONSTANT text := asked->>'container_id';
    moment bigint;
    number bigint;
    one record;
    place record;
    spot bigint;
    packed bytea;
    lock_key bigint;
    missing int;
    head bigint;
    keys bigint[] := '{}';
    pools bigint[] := '{}';
    domains text[] := '{}';
    addresses bytea[] := '{}';
    texts text[] := '{}';
    cursors bytea[] := '{}';
    lease_ids bigint[];
BEGIN
    -- As `registry.keep_open`: what is read after this sees every retirement that came first.
    PERFORM pg_advisory_xact_lock_shared(id::bigint)
        FROM jsonb_array_elements_text(asked->'locks') AS id;
    IF EXISTS (
        SELECT FROM retired_network WHERE uid IN (SELECT jsonb_array_elements_text(asked->'uids'))
    ) OR EXISTS (
        SELECT FROM meta WHERE meta.key = 'closed'
    ) OR EXISTS (
        SELECT FROM lease WHERE container_id = its_container AND held_to IS NULL
    ) OR its_uid <> '' AND (EXISTS (
        -- Not by the index over namespaces, which looks good as long as there are no statistics.
        SELECT FROM lease
        WHERE pod_uid = its_uid AND (namespace, pod) IS NOT DISTINCT FROM (its_namespace, its_pod)
            AND held_to IS NULL AND pod_uid <> ''
    ) OR EXISTS (
        SELECT FROM freed WHERE pod_uid = its_uid AND end_reason = 'rollback'
    )) THEN
        RETURN;
    END IF;

    FOR one IN
        SELECT * FROM jsonb_to_recordset(asked->'pools') AS _(
            network text, family smallint, domain text, shape text,
            stem text, low bigint, high bigint, base inet, count int)
    LOOP
        SELECT id, next INTO place FROM pool
        WHERE network = one.network AND family = one.family AND domain = one.domain
            AND shape = one.shape;
        IF NOT FOUND THEN
            -- The caller makes it and comes again.
            RETURN QUERY SELECT NULL::bigint, NULL::bytea, NULL::bigint, NULL::bytea;
            RETURN;
        ELSIF place.next IS NULL THEN
            RETURN;
        END IF;
        missing := one.count;
        head := NULL;
        FOR spot, packed IN
            SELECT n, decode(one.stem, 'hex') || substring(int8send(n) FROM 5)
            FROM generate_series(one.low, one.high) AS n
            WHERE decode(one.stem, 'hex') || substring(int8send(n) FROM 5) NOT IN (
                SELECT lease.address FROM lease
                WHERE lease.domain = one.domain AND lease.held_to IS NULL
                    AND lease.address BETWEEN
                        decode(one.stem, 'hex') || substring(int8send(one.low) FROM 5)
                        AND decode(one.stem, 'hex') || substring(int8send(one.high) FROM 5)
                UNION ALL
                SELECT freed.address FROM freed
                WHERE freed.domain = one.domain
                    AND freed.address BETWEEN
                        decode(one.stem, 'hex') || substring(int8send(one.low) FROM 5)
                        AND decode(one.stem, 'hex') || substring(int8send(one.high) FROM 5)
            )
        LOOP
            head := coalesce(head, spot);
            lock_key := hashtextextended(one.domain || encode(packed, 'hex'), 0);
            -- Somebody else is just binding it, or we are.
            CONTINUE WHEN lock_key = ANY (keys) OR NOT pg_try_advisory_xact_lock(lock_key);
            -- They may have finished between our look and our lock.
            CONTINUE WHEN EXISTS (
                SELECT FROM lease
                WHERE lease.domain = one.domain AND lease.address = packed
                    AND lease.held_to IS NULL
            );
            keys := keys || lock_key;
            pools := pools || place.id;
            domains := domains || one.domain;
            addresses := addresses || packed;
            texts := texts || host(one.base + (spot - one.low));
            missing := missing - 1;
            EXIT WHEN missing = 0;
        END LOOP;
        cursors := cursors || place.next;
        IF missing > 0 THEN
            -- The caller's window is of yesterday: tell where the cursors are, and bind nothing.
            RETURN QUERY SELECT NULL::bigint, NULL::bytea, NULL::bigint, known
                FROM unnest(cursors) AS known;
            RETURN;
        END IF;
        packed := decode(one.stem, 'hex') || substring(int8send(one.low) FROM 5);
        IF place.next = packed AND head - one.low >= 16 THEN
            -- Below `head` all is held or freed. Now and then, and only when nobody has the row.
            packed := decode(one.stem, 'hex') || substring(int8send(head) FROM 5);
            UPDATE pool SET next = packed WHERE id = (
                SELECT id FROM pool WHERE id = place.id AND next = place.next
                FOR NO KEY UPDATE SKIP LOCKED
            );
            cursors[array_upper(cursors, 1)] := packed;
        END IF;
    END LOOP;

    moment := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    WITH made AS (
        INSERT INTO lease (
            pool_id, network, network_uid, domain, family, address, address_text, prefix,
            interface, namespace, pod, pod_uid, container_id, node, mac, mode, pooled, held_from)
        SELECT pool_of, network, network_uid, domain_of, family, address_of, text_of, prefix,
            interface, its_namespace, its_pod, its_uid, its_container, asked->>'node', mac,
            'dynamic', 1, moment
        FROM ROWS FROM (
            jsonb_to_recordset(asked->'wants') AS (
                network text, network_uid text, family smallint, prefix smallint,
                interface text, mac text),
            unnest(pools), unnest(domains), unnest(addresses), unnest(texts)
        ) WITH ORDINALITY AS _(
            network, network_uid, family, prefix, interface, mac,
            pool_of, domain_of, address_of, text_of, no)
        ORDER BY no
        -- Not ON CONFLICT, which looks into every index twice: a row of others is an error here.
        RETURNING id
    ) SELECT array_agg(id ORDER BY id) INTO lease_ids FROM made;
    -- From here on nobody else can hold the addresses, so what is freed tells their whole past.
    IF EXISTS (
        SELECT FROM freed WHERE (freed.domain, freed.address) IN (
            SELECT * FROM unnest(domains, addresses))
    ) OR EXISTS (
        SELECT FROM meta WHERE meta.key = 'closed'
    ) OR EXISTS (
        SELECT FROM retired_network WHERE uid IN (SELECT jsonb_array_elements_text(asked->'uids'))
    ) THEN
        RAISE EXCEPTION 'another transaction was first'
            USING ERRCODE = 'serialization_failure';
    END IF;
    -- As `ledger.append`.
    number := pg_current_xact_id()::text::bigint
        + coalesce((SELECT value::bigint FROM meta WHERE meta.key = 'txid_shift'), 0);
    IF number < (SELECT txid_to FROM seal ORDER BY no DESC LIMIT 1) THEN
        RAISE EXCEPTION 'the numbers of transactions lie among those that are sealed'
            USING ERRCODE = 'serialization_failure';
    END IF;
    INSERT INTO event (
        txid, uid, at, effective_at, kind, lease_id, network, domain, family, address, interface,
        namespace, pod, pod_uid, container_id, node, mac, detail, digest)
    SELECT number, event_uid, moment, moment, 'ALLOCATE', id_of,
        network, domain_of, family, text_of, interface, its_namespace, its_pod, its_uid,
        its_container, asked->>'node', mac, detail,
        sha256(convert_to(format(digested, text_of, moment, id_of), 'UTF8'))
    FROM ROWS FROM (
        jsonb_to_recordset(asked->'wants') AS (
            network text, family smallint, interface text, mac text,
            event_uid text, detail text, digested text),
        unnest(lease_ids), unnest(domains), unnest(texts)
    ) WITH ORDINALITY AS _(
        network, family, interface, mac, event_uid, detail, digested,
        id_of, domain_of, text_of, no)
    ORDER BY no;
    RETURN QUERY SELECT id_of, address_of, moment, NULL::bytea
        FROM unnest(lease_ids, addresses) AS _(id_of, address_of);
    RETURN QUERY SELECT NULL::bigint, NULL::bytea, NULL::bigint, known
        FROM unnest(cursors) AS known;
END $$
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(BIND)
