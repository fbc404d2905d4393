//! U-Net endpoints.
