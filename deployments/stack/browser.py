"""What the pages of Prefect and MLflow may do in a browser: talk to the server they came from."""

# Inline styles and scripts, eval in the run graph (pixi), data: pictures and blob: workers are what
# Prefect's pages are made of. Foreign hosts are what this keeps out.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ]
)
