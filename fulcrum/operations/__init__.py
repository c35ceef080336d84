"""Operations: what people do to parked messages, planned, carried out and accounted for item by item."""
