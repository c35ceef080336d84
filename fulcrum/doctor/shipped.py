"""What must hold of runs whose definition captures money and lets goods leave? SQL that both checks share.

Each statement is a query over ``runs``, which whoever uses it defines before: rows of the read model that
ended, save those that a person answers for.
"""

from __future__ import annotations


def ships(alias: str) -> str:
    """The condition that the run ``alias`` is of such a definition."""
    return f"starts_with({alias}.definition, 'fulfillment.v2')"


#: Goods that left count as consumed for a completed run; those of any other came back, or are written off.
CONSUMED = f"""
    SELECT workflow_id, CASE WHEN shipped THEN 'consumed nothing' ELSE 'consumed what it should not' END,
           concat(status, ', consumed ', consumed)
    FROM (
        SELECT r.workflow_id, r.status, r.status = 'completed' AND {ships("r")} AS shipped, (
            SELECT coalesce(sum(l.consumed), 0)
            FROM inventory.reservations v JOIN inventory.reservation_lines l USING (workflow_id)
            WHERE v.workflow_id = r.workflow_id AND v.state = 'consumed') AS consumed
        FROM runs r) each
    WHERE shipped <> (consumed > 0)"""  # noqa: S608 - every part is a constant of this module

#: What did not leave is not paid. Units of one SKU that were agreed on at several prices leave a range; where
#: nothing was agreed on, what did not leave may be of any price.
CAPTURED = f"""
    SELECT r.workflow_id, 'another amount',
           concat('captured ', p.captured_minor, ' of ', r.amount_minor,
                  ', did not leave ', d.least, ' to ', d.most)
    FROM runs r JOIN payments.payments p USING (workflow_id) CROSS JOIN LATERAL (
        SELECT coalesce(sum(missing * coalesce(cheapest, 0)), 0) AS least,
               coalesce(sum(missing * coalesce(dearest, r.amount_minor)), 0) AS most
        FROM (
            SELECT sum((line.value->>'quantity')::bigint) - coalesce(max(g.consumed), 0) AS missing,
                   min(unit.minor) AS cheapest, max(unit.minor) AS dearest
            FROM intake.intents i
            CROSS JOIN json_array_elements(r.lines) WITH ORDINALITY AS line (value, number)
            CROSS JOIN LATERAL (SELECT (
                to_json(i)->'terms'->(line.number - 1)::integer->>'unit_minor')::bigint AS minor) unit
            LEFT JOIN inventory.reservation_lines g
              ON g.workflow_id = r.workflow_id AND g.sku = line.value->>'sku'
            WHERE i.workflow_id = r.workflow_id GROUP BY line.value->>'sku') by_sku) d
    WHERE r.status = 'completed' AND {ships("r")}
      AND p.captured_minor NOT BETWEEN r.amount_minor - d.most AND r.amount_minor - d.least"""  # noqa: S608
