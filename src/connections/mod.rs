//! Connections: the brand's accounts on platforms, with sealed tokens.
